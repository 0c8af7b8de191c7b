//! `trapline`: see the library.

fn main() -> std::process::ExitCode {
    trapline::main()
}
