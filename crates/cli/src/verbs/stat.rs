//! `trapline stat`.

use crate::args::StatArgs;
use crate::program::Program;
use crate::resolve::Resolution;
use crate::spec::Spec;
use crate::symbols::libraries::{Environment, closure};

pub(crate) fn run(args: &StatArgs) -> anyhow::Result<u8> {
    let specs = Spec::parse_all(&args.specs.all())?;
    let program = Program::find(&args.command[0])?;
    let libraries = closure(&program.object, &Environment::current());
    let _resolution = Resolution::new(std::iter::once(program.object).chain(libraries).collect(), specs)?;
    Ok(0)
}
