//! The page in a real browser: Chromium without a window, whose elements are read after the script
//! ran.

use super::tests::many_stacks;
use super::{render, served};
use crate::model::file::tests::complete;
use crate::model::recording::Recording;
use crate::outputs::browser::{elements, state};
use crate::verbs::report::serve::tests::serving;

fn opened(page: &str, fragment: &str) -> Option<String> {
    crate::outputs::browser::opened(page, "html", fragment)
}

/// The boxes of the graph: name and share, depth, left, width.
fn boxes(text: &str) -> Vec<(String, u32, f64, f64)> {
    let list = text.split("<ol id=\"boxes\">").nth(1).unwrap().split("</ol>").next().unwrap();
    let item = |item: &str| {
        let attribute = |name: &str| {
            item.split(&format!("data-{name}=\""))
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .to_string()
        };
        let label = item
            .split_once('>')
            .unwrap()
            .1
            .split("</li>")
            .next()
            .unwrap()
            .replace("&lt;", "<")
            .replace("&gt;", ">");
        (
            label,
            attribute("depth").parse().unwrap(),
            attribute("left").parse().unwrap(),
            attribute("width").parse().unwrap(),
        )
    };
    list.split("<li").skip(1).map(item).collect()
}

fn names(text: &str) -> Vec<String> {
    let mut names: Vec<String> = boxes(text).into_iter().map(|(name, ..)| name).collect();
    names.sort();
    names
}

#[test]
fn boxes_have_names_and_places() {
    let Some(text) = opened(&render(&complete()), "") else { return };
    let expected = [
        "[no stack] 20.0 %",
        "[no unwind information] 10.0 %",
        "_start 70.0 %",
        "f 30.0 %",
        "g<int> 10.0 %",
        "g<int> 40.0 %",
        "main 10.0 %",
        "main 70.0 %",
        "malloc 10.0 %",
        "malloc 20.0 %",
        "malloc 30.0 %",
        "malloc 40.0 %",
    ];
    assert_eq!(names(&text), expected);
    let boxes = boxes(&text);
    assert!(boxes.contains(&("g<int> 40.0 %".to_string(), 3, 0.6, 0.4)), "{boxes:?}");
    assert_eq!(
        (state(&text, "zoom"), state(&text, "layout"), state(&text, "boxes")),
        ("all", "flame", "12")
    );
    assert!(text.contains("<h1 id=\"command\">./a -x</h1>"));
}

#[test]
fn a_search_in_the_address() {
    let Some(text) = opened(&render(&complete()), "#search=%5Emain%24") else { return };
    assert_eq!((state(&text, "search"), state(&text, "matched")), ("^main$", "80.0 %"));
    assert!(text.contains("80.0 % matched, 1 function<"));
    // Of nested matches the outer one counts.
    let text = opened(&render(&complete()), "#search=MAIN|g%3C&layout=icicle").unwrap();
    assert_eq!(
        (state(&text, "matched"), state(&text, "layout")),
        ("50.0 %", "icicle"),
        "capital letters mean themselves"
    );
    let text = opened(&render(&complete()), "#search=(").unwrap();
    assert!(text.contains("not a regular expression") && state(&text, "matched").is_empty());
}

#[test]
fn a_zoom_in_the_address() {
    let Some(text) = opened(&render(&complete()), "#zoom=_start/main/g%3Cint%3E") else { return };
    assert_eq!((state(&text, "zoom"), state(&text, "zoom-percent")), ("g&lt;int&gt;", "40.0 %"));
    assert_eq!(names(&text), ["_start 70.0 %", "g<int> 40.0 %", "main 70.0 %", "malloc 40.0 %"]);
    assert!(boxes(&text).iter().all(|(_, _, left, width)| (*left, *width) == (0.0, 1.0)));
}

/// A script that acts as a user does, and leaves what it saw in the first element.
fn with_user(page: &str, acts: &str) -> String {
    page.replace("</body>", &format!("<script>\n{USER}{acts}\n</script></body>"))
}

const USER: &str = r##"
const seen = [];
const note = () => seen.push([root.dataset.zoom, root.dataset.matched, location.hash].join(" "));
// The middle of the box of a name, from what the page says of its boxes.
const point = (name) => {
    const items = [...document.querySelectorAll("#boxes li")];
    const box = items.find((item) => item.textContent.startsWith(name + " "));
    const around = graph.canvas.getBoundingClientRect();
    const line = graph.icicle ? +box.dataset.depth : graph.rows.length - 1 - box.dataset.depth;
    const middle = +box.dataset.left + box.dataset.width / 2;
    return {
        clientX: around.left + around.width * middle,
        clientY: around.top + (line + 0.5) * ROW,
        bubbles: true,
    };
};
const mouse = (kind, name) => graph.canvas.dispatchEvent(new MouseEvent(kind, point(name)));
const key = (key) =>
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
"##;

#[test]
fn what_a_user_does() {
    let acts = r##"
mouse("mousemove", "f");
seen.push(byId("tip").innerText.replace(/\n/g, "|"));
mouse("click", "f"); note();
byId("crumbs").querySelectorAll("button")[2].click(); note();
turn(true);
mouse("click", "g<int>"); note();
key("/"); seen.push(document.activeElement.id);
search("malloc"); note();
key("Escape"); note();
document.querySelector("#functions th:nth-child(5) button").click();
const names = document.querySelectorAll("#functions td.name");
seen.push([...names].map((cell) => cell.textContent).join());
document.querySelector("#functions td.name button").click(); note();
root.dataset.seen = seen.join("\n");
"##;
    let Some(text) = opened(&with_user(&render(&complete()), acts), "") else { return };
    let expected = [
        "f|/bin/a|/src/a.c:20|3 calls · 30.0 % of all",
        "f  #zoom=_start/main/f",
        "main  #zoom=_start/main",
        "g&lt;int&gt;  #zoom=_start/main/g%3Cint%3E&amp;layout=icicle",
        "search",
        "g&lt;int&gt; 100.0 % #zoom=_start/main/g%3Cint%3E&amp;layout=icicle",
        "all  #layout=icicle",
        "[no stack],[no unwind information],_start,f,g&lt;int&gt;,main,malloc",
        "all 20.0 % #search=%5E%5C%5Bno%20stack%5C%5D%24&amp;layout=icicle",
    ];
    assert_eq!(state(&text, "seen").lines().collect::<Vec<_>>(), expected);
}

#[test]
fn names_stay_text() {
    let mut recording = complete();
    let hostile = "<img src=x \
        onerror=\"document.title='broken'\"></script><script>document.title='broken'</script>";
    recording.frames[1].symbols[0].name = hostile.to_string();
    recording.functions[0].name = hostile.to_string();
    recording.functions[0].histogram = vec![(1, 2, 3)];
    recording.header.command = vec![hostile.to_string()];
    recording.header.specs = vec![hostile.to_string()];
    recording.lost = [(hostile.to_string(), 3)].into();
    recording.modules[0].path = format!("/bin/{hostile}");
    let Some(text) = opened(&render(&recording), "") else { return };
    assert!(!text.contains("<title>broken") && !text.contains("<img"));
    assert!(names(&text).iter().any(|name| name.starts_with("<img src=x onerror")));
}

#[test]
fn nothing_to_show() {
    let Some(text) = opened(&render(&Recording::default()), "#search=main&zoom=a/b") else {
        return;
    };
    assert!(text.contains("no hits: none of the functions was called"));
    assert!(text.contains("<section id=\"flame\" aria-label=\"Flame graph\" hidden"));
}

#[test]
fn many_stacks_are_drawn() {
    let Some(text) = opened(&render(&many_stacks(20_000)), "#search=function_7%24") else { return };
    assert_eq!(state(&text, "matched"), "100.0 %");
    assert_eq!(boxes(&text)[0].0, "function_0 100.0 %");
    assert!(state(&text, "boxes").parse::<u32>().unwrap() > 500, "{}", state(&text, "boxes"));
}

#[test]
fn served_by_report() {
    let url = serving(complete());
    let Some(text) = elements(&format!("{url}#search=%5Emain%24")) else { return };
    assert_eq!(state(&text, "matched"), "80.0 %");
    assert!(
        text.contains("href=\"https://profiler.firefox.com/from-url/http%3A%2F%2F127.0.0.1%3A")
    );
    assert_eq!(served(&complete()).matches("\"served\":true").count(), 1);
}
