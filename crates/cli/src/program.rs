//! The program that is to be traced: found as the shell finds it, and refused in one clear line
//! where it cannot be traced.

use crate::exit::{CANNOT_EXECUTE, FAILED, Failure, NOT_FOUND, USAGE};
use crate::run::c_library::Kind;
use crate::symbols::elf::Unreadable;
use crate::symbols::object::Object;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How deep scripts may be interpreted by scripts; the kernel's own limit is 4.
const DEEPEST_SCRIPT: usize = 4;
/// Bytes of a script's first line that the kernel reads.
const SCRIPT_LINE: u64 = 256;

/// A program that can be traced.
#[derive(Debug)]
pub(crate) struct Program {
    /// What is executed.
    pub(crate) file: PathBuf,
    /// The object whose functions are meant when a spec names no object: the file, or the
    /// interpreter of a script.
    pub(crate) object: Object,
    /// What it is linked with.
    pub(crate) kind: Kind,
}

impl Program {
    /// Finds `command` and checks that it can be traced.
    pub(crate) fn find(command: &OsStr) -> anyhow::Result<Self> {
        let file = locate(command)?;
        let (mut object, kind) = traced(&file)?;
        if file.canonicalize().is_ok_and(|path| path == object.path) {
            object.mainly_called(&command.to_string_lossy());
        }
        Ok(Self { file, object, kind })
    }
}

/// The file that `command` means: a path, or a name looked up in PATH.
fn locate(command: &OsStr) -> anyhow::Result<PathBuf> {
    let shown = command.to_string_lossy();
    if command.is_empty() {
        return Err(Failure::error(
            NOT_FOUND,
            "the command is empty; write it behind --, as in: trapline stat -- ls",
        ));
    }
    if matches!(command.to_str(), Some("-p" | "--pid")) {
        let message = "-p stands in front, without a command: trapline stat -p PID SPEC";
        return Err(Failure::error(USAGE, message));
    }
    if command.as_bytes().contains(&b'/') {
        return check(Path::new(command)).map(|()| PathBuf::from(command));
    }
    let path =
        std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
    let mut refused = None;
    for directory in std::env::split_paths(&path) {
        let file = if directory.as_os_str().is_empty() { PathBuf::from(".") } else { directory }
            .join(command);
        if file.is_dir() || !file.exists() {
            continue;
        }
        match check(&file) {
            Ok(()) => return Ok(file),
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(|| {
        let hint = if Path::new(command).exists() {
            format!("; to run the one in this directory, write ./{shown}")
        } else {
            String::new()
        };
        Failure::error(NOT_FOUND, format!("{shown}: no such command in PATH{hint}"))
    }))
}

/// Whether the file could be executed at all.
fn check(file: &Path) -> anyhow::Result<()> {
    let shown = file.display();
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            return Err(Failure::error(NOT_FOUND, format!("{shown}: no such file")));
        }
        Err(error) => return Err(Failure::error(CANNOT_EXECUTE, format!("{shown}: {error}"))),
    };
    if metadata.is_dir() {
        return Err(Failure::error(CANNOT_EXECUTE, format!("{shown}: a directory, not a program")));
    }
    if !metadata.is_file() {
        return Err(Failure::error(CANNOT_EXECUTE, format!("{shown}: not a regular file")));
    }
    if metadata.permissions().mode() & 0o111 == 0 || !crate::sys::may_execute(file) {
        return Err(Failure::error(
            CANNOT_EXECUTE,
            format!("{shown}: not executable; to make it so: chmod +x {shown}"),
        ));
    }
    Ok(())
}

/// The program that runs when `file` is executed: itself, or what interprets it.
pub(crate) fn interpreted(file: PathBuf) -> anyhow::Result<PathBuf> {
    let mut file = file;
    for _ in 0..=DEEPEST_SCRIPT {
        match interpreter(&file)? {
            Some(interpreter) => file = interpreter,
            None => return Ok(file),
        }
    }
    Err(Failure::error(
        CANNOT_EXECUTE,
        format!("{}: too many scripts that interpret scripts", file.display()),
    ))
}

/// The object that will run: `file`, or what interprets it.
fn traced(file: &Path) -> anyhow::Result<(Object, Kind)> {
    let file = &*interpreted(file.to_path_buf())?;
    let shown = file.display();
    let unreadable = |why: Unreadable| match why {
        Unreadable::NotElf => Failure::error(
            CANNOT_EXECUTE,
            format!("{shown}: neither an ELF program nor a script (it does not start with #!)"),
        ),
        Unreadable::Corrupt(_) | Unreadable::Kind(_) => {
            Failure::error(CANNOT_EXECUTE, format!("{shown}: {why}"))
        }
        Unreadable::Class32 => Failure::error(
            FAILED,
            format!(
                "{shown}: {why}; trapline traces 64-bit x86-64 programs: build it without -m32"
            ),
        ),
        Unreadable::BigEndian | Unreadable::Machine(_) => {
            Failure::error(FAILED, format!("{shown}: {why}; trapline traces x86-64 programs"))
        }
    };
    let object = Object::open(file)
        .map_err(|error| Failure::error(CANNOT_EXECUTE, format!("{error:#}")))?
        .map_err(unreadable)?;
    let kind = kind(file, &object)?;
    Ok((object, kind))
}

/// What the program is linked with. Refuses what would run without an agent.
fn kind(file: &Path, object: &Object) -> anyhow::Result<Kind> {
    let shown = file.display();
    if let Some(interpreter) = object.elf.interpreter()
        && !Path::new(interpreter).exists()
    {
        return Err(Failure::error(
            CANNOT_EXECUTE,
            format!("{shown}: its loader {interpreter} is not there"),
        ));
    }
    let Some(kind) = Kind::of_program(&object.elf) else {
        return Err(Failure::error(
            FAILED,
            format!(
                "{shown}: its C library is neither glibc nor musl: its threads have no place that \
                    is known to be free"
            ),
        ));
    };
    let metadata = object.path.metadata()?;
    let ids = crate::sys::Ids::current();
    let setuid = metadata.mode() & libc::S_ISUID != 0 && metadata.uid() != ids.user;
    let setgid = metadata.mode() & libc::S_ISGID != 0
        && metadata.mode() & libc::S_IXGRP != 0
        && metadata.gid() != ids.group;
    let how = if setuid {
        Some("setuid")
    } else if setgid {
        Some("setgid")
    } else if ids.user != 0 && crate::sys::has_capabilities(&object.path) {
        Some("given capabilities")
    } else {
        None
    };
    match how {
        Some(how) => {
            let plain = format!("/tmp/{}", object.name());
            Err(Failure::error(
                FAILED,
                format!(
                    "{shown}: {how}, so the loader ignores LD_PRELOAD; trace a copy without \
                        privileges: cp {shown} {plain}, then {plain}"
                ),
            ))
        }
        None => Ok(kind),
    }
}

/// The program behind `#!`; None when the file is no script. `#!/usr/bin/env prog` is `prog`: env
/// only looks it up.
fn interpreter(file: &Path) -> anyhow::Result<Option<PathBuf>> {
    let shown = file.display();
    let mut line = Vec::new();
    std::fs::File::open(file)
        .and_then(|open| open.take(SCRIPT_LINE).read_to_end(&mut line))
        .map_err(|error| {
            Failure::error(CANNOT_EXECUTE, format!("{shown}: cannot be read: {error}"))
        })?;
    let Some(line) = line.strip_prefix(b"#!") else {
        return Ok(None);
    };
    let line = line.split(|&byte| byte == b'\n').next().unwrap_or(&[]);
    let mut words = line.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty());
    let Some(first) = words.next() else {
        return Err(Failure::error(
            CANNOT_EXECUTE,
            format!("{shown}: a script that names no interpreter behind #!"),
        ));
    };
    let path = PathBuf::from(OsString::from_vec(first.to_vec()));
    let in_script = |error: anyhow::Error| {
        let code = crate::exit::code_of(&error);
        Failure::error(code, format!("{shown}: its interpreter: {error}"))
    };
    if path.file_name() == Some(OsStr::new("env")) {
        let program = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
        if let Some(program) = program {
            return locate(OsStr::from_bytes(program)).map(Some).map_err(in_script);
        }
    }
    check(&path).map_err(in_script)?;
    Ok(Some(path))
}
