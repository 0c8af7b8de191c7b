//! Debian's sqlite3 runs a script that checks its own results, with every function of the program
//! and its library probed.

mod common;

use common::process::{program, run, trapline};
use common::{Report, tools};

const SCRIPT: &str = "
.bail on
PRAGMA journal_mode = WAL;
CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL, price REAL, stock INTEGER \
CHECK(stock >= 0));
CREATE INDEX by_name ON item(name);
CREATE TABLE failure(what TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO item SELECT i, printf('item-%05d', i * 7919 % 20011), i * 0.25, i % 97 FROM n;
COMMIT;
INSERT INTO failure SELECT 'count' WHERE (SELECT count(*) FROM item) <> 20000;
INSERT INTO failure SELECT 'sum' WHERE (SELECT sum(price) FROM item) <> 50002500.0;
INSERT INTO failure SELECT 'index' WHERE (SELECT id FROM item WHERE name = 'item-07919') <> 1;
INSERT INTO failure SELECT 'join' WHERE (SELECT count(*) FROM item a JOIN item b ON a.id = \
b.stock) <> 19794;
SELECT 'join', count(*) FROM item a JOIN item b ON a.id = b.stock;
CREATE TRIGGER sold AFTER UPDATE OF stock ON item BEGIN INSERT INTO failure SELECT 'trigger' \
WHERE NEW.stock > OLD.stock; END;
UPDATE item SET stock = stock - 1 WHERE stock > 0;
SAVEPOINT s;
DELETE FROM item WHERE id % 3 = 0;
SELECT 'deleted', changes();
ROLLBACK TO s;
RELEASE s;
INSERT OR IGNORE INTO item VALUES(5, 'twice', 1, 1);
SELECT 'window', max(r) FROM (SELECT row_number() OVER (PARTITION BY stock ORDER BY price) AS r \
FROM item);
SELECT 'json', json_extract(json_group_array(id), '$[99]') FROM (SELECT id FROM item ORDER BY id);
SELECT 'text', group_concat(name, ',') FROM (SELECT name FROM item ORDER BY name LIMIT 3);
VACUUM;
ANALYZE;
PRAGMA integrity_check;
SELECT 'hash', hex(sum(length(name) * id)) FROM item;
SELECT 'failures', count(*), group_concat(what) FROM failure;
";

#[test]
fn a_script_that_checks_its_results() {
    let Some(sqlite) = tools::find("sqlite3") else { return };
    let run_in = |command: &mut std::process::Command, directory: &std::path::Path| {
        run(command.arg("-batch").arg("data.db").current_dir(directory), SCRIPT.as_bytes())
    };
    let bare_directory = tempfile::tempdir().expect("a temporary directory");
    let bare = run_in(&mut program(&sqlite), bare_directory.path());
    assert_eq!(bare.code, 0, "{}", bare.stderr);
    assert!(bare.stdout.contains("\nok\n"), "{}", bare.stdout);
    for specs in [&[][..], &["sqlite3:*", "libsqlite3.so.0:*"], &["*:sqlite3_*"]] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let report = directory.path().join("report");
        let mut command = trapline();
        command.args(["stat", "-j", "-o"]).arg(&report).args(specs).arg("--").arg(&sqlite);
        let probed = run_in(&mut command, directory.path());
        assert_eq!(
            (probed.code, &probed.stdout, &probed.stderr),
            (0, &bare.stdout, &bare.stderr),
            "{specs:?}"
        );
        let report = Report::read(&report).expect("a report");
        assert!(report.problems().is_empty(), "{:?}", report.problems());
        assert!(report.lost().is_empty(), "{specs:?}: {:?}", report.lost());
        if !specs.is_empty() {
            assert!(
                report.calls("sqlite3_step") > 50,
                "{specs:?}: {} calls of sqlite3_step",
                report.calls("sqlite3_step")
            );
        }
    }
}
