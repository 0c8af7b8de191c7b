//! Targets: C, C++, Rust and assembly programs under `tests/targets`, compiled once per content and
//! flags.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::check::Case;

/// How C and C++ are compiled. Recursion stays recursion: the compiler would make loops of it.
const USUAL: [&str; 5] = ["-O2", "-g", "-pthread", "-w", "-fno-optimize-sibling-calls"];

/// A program to compile.
#[derive(Clone)]
pub(crate) struct Target {
    source: PathBuf,
    name: String,
    flags: Vec<String>,
    shared: bool,
    /// Of C programs.
    compiler: &'static str,
}

/// Copies a program that is to be executed, by another process: a descriptor that is open for
/// writing here would be inherited by whatever another test just starts, and executing the copy
/// would be refused (`ETXTBSY`) until that has executed its program.
///
/// # Panics
/// If it cannot be copied.
pub(crate) fn copy(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let mut command = Command::new("cp");
    command.arg("--preserve=mode").arg(from.as_ref()).arg(to.as_ref());
    assert!(command.status().expect("cp runs").success(), "{command:?}");
}

/// The source files' directory.
pub(crate) fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets")
}

impl Target {
    /// The program from `tests/targets/SOURCE`; the language follows from the suffix. Optimised
    /// unless `flags` say otherwise.
    pub(crate) fn new(source: &str) -> Self {
        Self::from_path(&sources().join(source))
    }

    /// The same for a source file elsewhere (a generated one).
    pub(crate) fn from_path(source: &Path) -> Self {
        let name = source
            .file_stem()
            .expect("a source file has a name")
            .to_str()
            .expect("in UTF-8")
            .to_owned();
        Self { source: source.to_owned(), name, flags: Vec::new(), shared: false, compiler: "gcc" }
    }

    /// Further compiler flags, after the usual ones.
    pub(crate) fn flags(mut self, flags: &[&str]) -> Self {
        self.flags.extend(flags.iter().map(|&flag| flag.to_owned()));
        self
    }

    /// Another compiler of C.
    pub(crate) fn compiler(mut self, compiler: &'static str) -> Self {
        self.compiler = compiler;
        self
    }

    /// The name of the file to make; the source's stem if this is not called.
    pub(crate) fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// A shared object.
    pub(crate) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Compiles the program, unless this was done before, and gives its path: `.../NAME-HASH/NAME`.
    pub(crate) fn build(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        let read = |path: &Path| {
            fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        read(&self.source).hash(&mut hasher);
        read(&sources().join("target.h")).hash(&mut hasher);
        (USUAL, &self.flags, self.shared, &self.name, self.compiler).hash(&mut hasher);
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("targets");
        let directory = cache.join(format!("{}-{:016x}", self.name, hasher.finish()));
        let file = directory.join(&self.name);
        if file.exists() {
            return file;
        }
        // Made under a name of its own and moved in place in one step: other tests may be at the
        // same.
        static SERIAL: AtomicU32 = AtomicU32::new(0);
        let draft = cache.join(format!(
            "draft-{}-{}",
            std::process::id(),
            SERIAL.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&draft).expect("the target directory is writable");
        self.compile(&draft.join(&self.name));
        if fs::rename(&draft, &directory).is_err() {
            assert!(file.exists(), "cannot move {} to {}", draft.display(), directory.display());
            let _ = fs::remove_dir_all(&draft);
        }
        file
    }

    fn compile(&self, output: &Path) {
        let suffix = self.source.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let mut command = match suffix {
            "rs" => {
                let mut command =
                    Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
                command.args(["--edition", "2024", "-O"]);
                command
            }
            "cpp" => {
                let mut command = Command::new("g++");
                command.arg("-std=c++17").args(USUAL);
                command
            }
            "c" | "S" => {
                let mut command = Command::new(self.compiler);
                command.args(USUAL);
                command
            }
            other => panic!("no compiler for .{other}"),
        };
        if self.shared {
            command.args(["-shared", "-fPIC"]);
        }
        // Libraries and the like follow the source.
        command.arg(&self.source).args(&self.flags).arg("-o").arg(output);
        let result = command.output().unwrap_or_else(|error| {
            panic!("{command:?}: {error} (scripts/test tools installs what is missing)")
        });
        assert!(
            result.status.success(),
            "{command:?}:\n{}",
            String::from_utf8_lossy(&result.stderr)
        );
    }

    /// The case that runs this program without arguments.
    pub(crate) fn case(&self) -> Case {
        Case::new(&self.build())
    }

    /// Runs the program bare and in all modes; see [`Case::check`].
    pub(crate) fn check(&self) {
        self.case().check();
    }
}
