//! Building small programs.

use inject::Image;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// How a program is linked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Dynamic,
    Static,
    StaticPie,
    Stripped,
    MuslDynamic,
    MuslStatic,
    /// `work` alone.
    Go,
}

impl Kind {
    pub(crate) const ALL: [Self; 7] = [
        Self::Dynamic,
        Self::Static,
        Self::StaticPie,
        Self::Stripped,
        Self::MuslDynamic,
        Self::MuslStatic,
        Self::Go,
    ];

    fn compiler(self) -> &'static str {
        match self {
            Self::MuslDynamic | Self::MuslStatic => "musl-gcc",
            Self::Go => "go",
            _ => "cc",
        }
    }

    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Static | Self::MuslStatic => &["-static"],
            // Stripped when it runs; its symbols are asked of what it was.
            Self::Stripped => &["-static", "-no-pie"],
            Self::StaticPie => &["-static-pie"],
            _ => &[],
        }
    }
}

fn targets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/targets")
}

/// Says that a test is skipped because `what` is missing.
///
/// # Panics
/// With CI set.
pub(crate) fn missing(what: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "{what} is missing, and in CI nothing may be skipped (scripts/test tools installs it)"
    );
    eprintln!("SKIPPED: {what} is missing (as root, scripts/test tools installs it)");
}

fn run(command: &mut Command) {
    let output = command.output().expect("the compiler starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {} {said}", output.status);
}

/// A program of `tests/targets`, or nothing where its compiler is missing: then the test says that
/// it skips it.
pub(crate) fn program(name: &'static str, kind: Kind) -> Option<PathBuf> {
    type Built = HashMap<(&'static str, Kind), Option<PathBuf>>;
    static BUILT: OnceLock<Mutex<Built>> = OnceLock::new();
    let built = BUILT.get_or_init(Mutex::default).lock();
    let mut built = built.unwrap_or_else(PoisonError::into_inner);
    built.entry((name, kind)).or_insert_with(|| build(name, kind)).clone()
}

fn build(name: &str, kind: Kind) -> Option<PathBuf> {
    let compiler = kind.compiler();
    if Command::new(compiler).arg("--version").output().is_err() {
        missing(compiler);
        return None;
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inject");
    fs::create_dir_all(&folder).expect("a folder for programs");
    let place = folder.join(format!("{name}-{kind:?}"));
    // Put in its place when it is done: the same test may run twice at a time.
    let out = folder.join(format!("{name}-{kind:?}-{}", std::process::id()));
    if kind == Kind::Go {
        let go = targets().join("go");
        let cache = folder.join("go-cache");
        let mut command = Command::new("go");
        command.current_dir(go).args(["build", "-buildvcs=false", "-o"]).arg(&out);
        run(command.env("GOCACHE", cache).env("GOFLAGS", "-mod=mod").env("GOPROXY", "off"));
        fs::rename(&out, &place).expect("renamed");
        return Some(place);
    }
    let source = targets().join(format!("{name}.c"));
    let mut command = Command::new(compiler);
    command.args(["-O2", "-w", "-pthread"]).args(kind.flags()).arg("-o").arg(&out);
    run(command.arg(source));
    if kind == Kind::Stripped {
        fs::copy(&out, place.with_extension("whole")).expect("a copy");
        run(Command::new("strip").arg(&out));
    }
    fs::rename(&out, &place).expect("renamed");
    Some(place)
}

/// The file that has a program's symbols.
fn with_symbols(program: &Path) -> PathBuf {
    let whole = program.with_extension("whole");
    if whole.exists() { whole } else { program.to_owned() }
}

/// Says where the test's image is.
const IMAGE: &str = "TRAPLINE_TEST_IMAGE";

/// The bytes of the test's image.
pub(crate) fn image_file() -> &'static [u8] {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    BYTES.get_or_init(|| {
        if let Some(built) = std::env::var_os(IMAGE) {
            return fs::read(built).expect("the image");
        }
        let out = std::env::temp_dir().join(format!("trapline-image-{}", std::process::id()));
        let mut command = Command::new("cc");
        command.args(["-O2", "-nostdlib", "-static-pie", "-ffreestanding", "-fcf-protection=none"]);
        command.args(["-fno-stack-protector", "-Wl,-e,image_calculate", "-o"]).arg(&out);
        run(command.arg(targets().join("image.c")));
        let bytes = fs::read(&out).expect("the image");
        fs::remove_file(&out).expect("removed");
        bytes
    })
}

/// The test's image.
pub(crate) fn image() -> Image {
    Image::parse(image_file()).expect("an image")
}

/// Gives an injector that is started the image, so that it is not killed while it builds one.
pub(crate) fn give_image(command: &mut Command) {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("inject");
        fs::create_dir_all(&folder).expect("a folder for programs");
        let (place, out) =
            (folder.join("image"), folder.join(format!("image-{}", std::process::id())));
        fs::write(&out, image_file()).expect("a file");
        fs::rename(&out, &place).expect("renamed");
        place
    });
    command.env(IMAGE, file);
}

/// The value of a symbol of a program.
pub(crate) fn symbol(program: &Path, name: &str) -> u64 {
    use object::{Object as _, ObjectSymbol as _};
    let bytes = fs::read(with_symbols(program)).expect("the program");
    let file = object::File::parse(&*bytes).expect("an ELF file");
    let found = file.symbols().find(|symbol| symbol.name() == Ok(name) && symbol.is_definition());
    found.unwrap_or_else(|| panic!("{name} in {}", program.display())).address()
}

/// The entry point that a program's file says.
pub(crate) fn entry(program: &Path) -> u64 {
    let bytes = fs::read(program).expect("the program");
    object::Object::entry(&object::File::parse(&*bytes).expect("an ELF file"))
}
