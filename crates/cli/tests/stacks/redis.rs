//! Debian's redis-server: functions that only commands call.

use super::recorded::Recorded;
use super::stack::Stacks;
use super::{compare, gdb};
use crate::common::redis::{Client, Server};
use crate::common::{process, tools};

/// Timers never come here.
const FUNCTIONS: [&str; 2] = ["setGenericCommand", "lookupKeyReadWithFlags"];

/// One command at a time, so that each comes the same way.
fn commands(client: &mut Client) {
    for round in 0..5 {
        let text = round.to_string();
        for command in [
            &["SET", "a", &text][..],
            &["GET", "a"],
            &["SETEX", "b", "1000", &text],
            &["SETNX", "c", &text],
            &["MGET", "a", "b", "c"],
            &["LPUSH", "list", "3", "1", "2"],
            &["LRANGE", "list", "0", "-1"],
            &["SORT", "list", "BY", "a*", "GET", "b*"],
            &["STRLEN", "a"],
            &[
                "EVAL",
                "redis.call('SET', KEYS[1], ARGV[1]); return redis.call('GET', KEYS[1])",
                "1",
                "d",
                &text,
            ],
            &[
                "EVAL",
                "local t = {3, 1, 2}; table.sort(t, function(x, y) redis.pcall('GET', 'a'); \
                    return x < y end); return t",
                "0",
            ],
            &["MULTI"],
            &["SET", "e", &text],
            &["GET", "e"],
            &["EXEC"],
            &["GET", "list"],
        ] {
            assert!(!client.ask(command).starts_with("-ERR"), "{command:?}");
        }
    }
}

fn in_gdb() -> Stacks {
    let server = Server::start_by(|directory| gdb::command(&FUNCTIONS, &directory.join("stacks")));
    let mut client = server.connect();
    commands(&mut client);
    client.shut_down();
    let (finished, directory) = server.finish();
    gdb::read(&directory.path().join("stacks"), &finished)
}

fn recorded(options: &[&str]) -> Recorded {
    let server = Server::start_by(|directory| {
        let mut command = process::trapline();
        command.arg("record").args(options).arg("-o").arg(directory.join("stacks.tlp")).arg("--");
        command
    });
    let mut client = server.connect();
    commands(&mut client);
    client.shut_down();
    let (finished, directory) = server.finish();
    assert_eq!(finished.code, 0, "{options:?}\n{}", finished.stderr);
    Recorded::read(&directory.path().join("stacks.tlp"))
}

#[test]
fn functions_of_commands() {
    if tools::find("redis-server").is_none() || !gdb::available() {
        return;
    }
    let expected = in_gdb();
    for options in [
        &["redis-server:setGenericCommand", "redis-server:lookupKeyReadWithFlags"][..],
        &["--weight", "time", "redis-server:*"],
    ] {
        let recorded = recorded(&[&["--stack", "dwarf:254"], options].concat());
        compare::same(
            &format!("redis-server {options:?}"),
            &recorded,
            &FUNCTIONS,
            &expected,
            |_| true,
        );
    }
}
