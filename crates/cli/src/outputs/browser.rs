//! For tests: a page in a real browser, Chromium without a window, whose elements are read after
//! the script ran.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A browser that takes longer has stopped.
const PATIENCE: Duration = Duration::from_secs(120);

/// The elements of the page at `url`; none where there is no browser, which only a developer's
/// machine may lack.
pub(super) fn elements(url: &str) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let output = profile.path().join("elements.html");
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args([
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1600,1000",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url)
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).unwrap())
        .stderr(Stdio::null());
    let mut browser = match command.spawn() {
        Ok(browser) => browser,
        Err(error) => {
            crate::missing::missing(&format!("chromium ({error})"));
            return None;
        }
    };
    let started = Instant::now();
    while browser.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            let _ = browser.kill();
            let _ = browser.wait();
            panic!("{url}: the browser did not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let text = std::fs::read_to_string(output).unwrap();
    assert!(
        text.contains("data-ready=\"yes\""),
        "{url}: the script did not come to its end: {} bytes",
        text.len()
    );
    Some(text)
}

fn write(directory: &Path, page: &str, ending: &str) -> String {
    let path = directory.join(format!("page.{ending}"));
    std::fs::write(&path, page).unwrap();
    format!("file://{}", path.display())
}

/// The elements of a page, with what its address has behind the path.
pub(super) fn opened(page: &str, ending: &str, fragment: &str) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    elements(&format!("{}{fragment}", write(directory.path(), page, ending)))
}

/// An attribute of the page's first element, where the script keeps its state.
pub(super) fn state<'a>(text: &'a str, name: &str) -> &'a str {
    let first = &text[text.find("<html").or_else(|| text.find("<svg")).unwrap()..];
    let first = &first[..first.find('>').unwrap()];
    let start = first.find(&format!(" data-{name}=\"")).map(|at| at + name.len() + 8);
    start.map_or("", |start| first[start..].split('"').next().unwrap())
}
