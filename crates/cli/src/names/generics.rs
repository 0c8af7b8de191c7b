//! Template arguments and generics in demangled names: found, and left out.

/// Without `<…>` behind a name or a `::`. The `<` of a Rust path (`<T as Trait>::method`) and of
/// operators stays.
pub(crate) fn without_generics(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut chars = name.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        if c != '<' || !takes_generics(&out) {
            out.push(c);
            continue;
        }
        let Some(end) = closing(&name[at..]) else {
            out.push(c);
            continue;
        };
        let end = at + end;
        while chars.peek().is_some_and(|&(next, _)| next <= end) {
            chars.next();
        }
        if out.ends_with("::") {
            // The turbofish: `f::<T>` is `f`, `f::<T>::g` is `f::g`.
            out.truncate(out.len() - 2);
        }
    }
    out
}

/// Whether a `<` behind `out` opens generics.
pub(super) fn takes_generics(out: &str) -> bool {
    let operator = out.trim_end_matches(['<', '=', '>', '-']);
    if operator.ends_with("operator") {
        return false;
    }
    out.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '}')
        || (out.ends_with("::") && out.len() > 2)
}

/// Where the `<` at the start of `text` is closed; the `>` of `->` does not count.
pub(super) fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if before != '-' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
        before = c;
    }
    None
}

/// `<path::Type as Trait>::method` is also `path::Type::method`.
pub(super) fn method_of_type(name: &str) -> Option<String> {
    if !name.starts_with('<') {
        return None;
    }
    let end = closing(name)?;
    let inside = &name[1..end];
    let this = inside.split(" as ").next().unwrap_or(inside);
    let this =
        this.trim_start_matches(['&', '*']).trim_start_matches("mut ").trim_start_matches("const ");
    Some(format!("{this}{}", &name[end + 1..]))
}
