//! A PostgreSQL server of one test's own, on a socket in a directory of its own.

use super::process::{Finished, Running, is_root, run, send_signal, start, wait_until};
use super::{build, tools};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A user without privileges: the server refuses to run as root.
const NOBODY: u32 = 65534;

/// Where Debian has the server's programs.
pub(crate) fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found =
        versions.map(|version| version.path().join("bin")).find(|bin| bin.join("initdb").is_file());
    if found.is_none() {
        tools::missing("postgresql");
    }
    found
}

/// A running server.
pub(crate) struct Server {
    running: Running,
    bin: PathBuf,
    pub(crate) directory: tempfile::TempDir,
}

impl Server {
    /// Makes a database and starts the server in it under `trapline stat` with `specs`, or bare.
    pub(crate) fn start(bin: &Path, specs: Option<&[&str]>) -> Self {
        let directory = tempfile::tempdir_in("/tmp").expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let trapline = at("trapline");
        // That others can execute.
        build::copy(env!("CARGO_BIN_EXE_trapline"), &trapline);
        if is_root() {
            std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY))
                .expect("root may");
        }
        let data = at("data");
        let options = ["-U", "test", "-A", "trust", "--no-sync"];
        let made =
            run(as_nobody(&bin.join("initdb"), &directory).arg("-D").arg(&data).args(options), b"");
        assert_eq!(made.code, 0, "{}", made.stderr);
        let mut command = match specs {
            None => as_nobody(&bin.join("postgres"), &directory),
            Some(specs) => {
                let mut command = as_nobody(&trapline, &directory);
                command.args(["stat", "-j", "-o"]).arg(at("report")).args(specs).arg("--");
                command.arg(bin.join("postgres"));
                command
            }
        };
        command.arg("-D").arg(&data).arg("-k").arg(directory.path());
        let log = format!("log_directory={}", directory.path().display());
        let settings = [
            "log_connections=on",
            "log_statement=all",
            "logging_collector=on",
            "log_filename=log",
            "fsync=off",
        ];
        for setting in settings.into_iter().chain(["listen_addresses=", log.as_str()]) {
            command.arg("-c").arg(setting);
        }
        let mut server = Self { running: start(&mut command), bin: bin.to_owned(), directory };
        wait_until("PostgreSQL answers", || {
            let ended = server.running.child.try_wait().expect("ours");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            run(&mut server.client("pg_isready"), b"").code == 0
        });
        server
    }

    /// A client program, told where the server is.
    pub(crate) fn client(&self, name: &str) -> Command {
        let mut command = super::process::program(self.bin.join(name));
        command.arg("-h").arg(self.directory.path()).args(["-U", "test"]);
        command
    }

    /// Memory of trapline's counters, in bytes.
    pub(crate) fn counters(&self) -> u64 {
        let files =
            fs::read_dir(format!("/proc/{}/fd", self.running.id())).expect("it runs").flatten();
        let is_counters = |path: &PathBuf| {
            fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("trapline-counters"))
        };
        let sizes = files
            .map(|file| file.path())
            .filter(is_counters)
            .map(|path| fs::metadata(path).expect("it is open").blocks() * 512);
        sizes.max().expect("trapline holds its counters")
    }

    /// What the server wrote into its log.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).expect("the server's log")
    }

    /// The postmaster.
    pub(crate) fn pid(&self) -> i32 {
        let file = self.directory.path().join("data/postmaster.pid");
        let file = fs::read_to_string(file).expect("it runs");
        file.lines().next().and_then(|line| line.parse().ok()).expect("a number")
    }

    /// Lets the server shut down, as it does at once when it is told to.
    pub(crate) fn finish(self) -> (Finished, tempfile::TempDir) {
        send_signal(self.pid(), libc::SIGINT);
        (self.running.finish(b""), self.directory)
    }
}

/// `program`, as a user who is not root.
fn as_nobody(program: &Path, directory: &tempfile::TempDir) -> Command {
    let mut command = if is_root() {
        let mut command = super::process::program("setpriv");
        command.args([
            format!("--reuid={NOBODY}"),
            format!("--regid={NOBODY}"),
            "--clear-groups".into(),
            "--".into(),
        ]);
        command.arg(program);
        command
    } else {
        super::process::program(program)
    };
    command.current_dir(directory.path());
    command
}
