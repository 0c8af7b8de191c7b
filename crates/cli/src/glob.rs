//! Globs over names: `*`, `?`, `[a-z]`, `[!a-z]`, and `\` before a character that means itself.
//!
//! A name is not a path: `*` takes every character, `:` and `/` among them. Braces mean themselves, since Rust has `{{closure}}` in its names.

/// A compiled glob.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    tokens: Vec<Token>,
}

#[derive(Debug, Clone)]
enum Token {
    Char(char),
    Any,
    Star,
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
        let chars: Vec<char> = pattern.chars().collect();
        let mut tokens = Vec::with_capacity(chars.len());
        let mut at = 0;
        while at < chars.len() {
            match chars[at] {
                '*' => {
                    if !matches!(tokens.last(), Some(Token::Star)) {
                        tokens.push(Token::Star);
                    }
                }
                '?' => tokens.push(Token::Any),
                '\\' if at + 1 < chars.len() => {
                    at += 1;
                    tokens.push(Token::Char(chars[at]));
                }
                '[' => match class(&chars[at + 1..]) {
                    Some((token, used)) => {
                        tokens.push(token);
                        at += used;
                    }
                    None => tokens.push(Token::Char('[')),
                },
                c => tokens.push(Token::Char(c)),
            }
            at += 1;
        }
        Self { tokens }
    }

    /// Whether the whole of `name` matches. Linear in the name but for the last `*`, to which it goes back.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let mut rest = name.chars();
        let mut token = 0;
        let mut retry = None;
        loop {
            if let Some(Token::Star) = self.tokens.get(token) {
                token += 1;
                retry = Some((token, rest.clone()));
                continue;
            }
            let Some(c) = rest.next() else {
                return token == self.tokens.len();
            };
            if self.tokens.get(token).is_some_and(|t| t.takes(c)) {
                token += 1;
                continue;
            }
            let Some((after_star, from)) = &mut retry else {
                return false;
            };
            from.next();
            token = *after_star;
            rest = from.clone();
        }
    }

    pub(crate) fn everything(&self) -> bool {
        matches!(self.tokens[..], [Token::Star])
    }
}

impl Token {
    fn takes(&self, c: char) -> bool {
        match self {
            Self::Char(own) => *own == c,
            Self::Any => true,
            Self::Star => false,
            Self::Class { negated, ranges } => ranges.iter().any(|&(low, high)| low <= c && c <= high) != *negated,
        }
    }
}

/// The class whose `[` was just read, and how many characters it takes with its `]`.
fn class(chars: &[char]) -> Option<(Token, usize)> {
    let negated = matches!(chars.first(), Some('!' | '^'));
    let start = usize::from(negated);
    let mut ranges = Vec::new();
    let mut at = start;
    loop {
        match *chars.get(at)? {
            ']' if at > start => return Some((Token::Class { negated, ranges }, at + 1)),
            low => match (chars.get(at + 1), chars.get(at + 2)) {
                (Some('-'), Some(&high)) if high != ']' => {
                    ranges.push((low, high));
                    at += 3;
                }
                _ => {
                    ranges.push((low, low));
                    at += 1;
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn table() {
        for (glob, name, expected) in [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything::at/all", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
            ("process*", "processCommand", true),
            ("?", "", false),
            ("f?o", "foo", true),
            ("f[a-o]o", "foo", true),
            ("f[!a-n]o", "foo", true),
            ("f[!a-o]o", "foo", false),
            ("f[]]o", "f]o", true),
            ("f[-x]", "f-", true),
            ("f[o", "f[o", true),
            (r"operator\*", "operator*", true),
            (r"operator\*", "operatorx", false),
            ("{{closure}}", "{{closure}}", true),
            ("db::*::open", "db::x::y::open", true),
            ("*é*", "café au lait", true),
        ] {
            assert_eq!(Glob::new(glob).matches(name), expected, "{glob} on {name}");
        }
    }

    #[test]
    fn many_stars_do_not_explode() {
        let name = "a".repeat(5_000);
        assert!(!Glob::new(&"*a".repeat(40).replace("*a*a", "*aa*a").replace("aa", "ab")).matches(&name));
    }

    #[test]
    fn everything() {
        assert!(Glob::new("*").everything());
        assert!(Glob::new("**").everything());
        assert!(!Glob::new("*a").everything());
        assert!(!Glob::new("").everything());
    }
}
