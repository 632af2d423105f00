//! `spec.killIfCommands` as the agent reads them: TOML, of the predecessor's three keys.

use std::fmt::Write as _;

/// What `spec.killIfCommands` may have, and the agent reads.
const MOST: usize = 100;
const LONGEST: usize = 256;
/// From walk to walk of an agent that polls; the predecessor's.
const POLL_INTERVAL_MS: u32 = 250;

/// Whether the agent takes such an entry: one that it refuses would cost it all the others.
pub fn is_usable(command: &str) -> bool {
    !command.is_empty() && !command.contains('\0') && command.chars().count() <= LONGEST
}

/// The text for these commands.
pub fn text(commands: &[String]) -> String {
    let usable = commands.iter().filter(|command| is_usable(command)).take(MOST);
    let quoted: Vec<String> = usable.map(|command| quoted(command)).collect();
    format!(
        "# Written by 5spot from spec.killIfCommands; edits of this text are undone.\n\
         match_commands = [{}]\nmatch_argv_substrings = []\npoll_interval_ms = {POLL_INTERVAL_MS}\n",
        quoted.join(", ")
    )
}

/// A TOML basic string.
fn quoted(word: &str) -> String {
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => {
                // Writing into a String cannot fail.
                let _ = write!(text, "\\u{:04X}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::agent::rules::parse;

    /// What the agent makes of the text, in its own words.
    fn read(commands: &[String]) -> String {
        let rules = parse(&text(commands)).unwrap_or_else(|faults| panic!("{faults}: {}", text(commands)));
        format!("{rules:?}")
    }

    fn words() -> impl Strategy<Value = String> {
        let awkward = prop::sample::select(vec!['"', '\\', '\n', '\'', '\u{7f}', '\u{0}', '#', ' ']);
        let character = prop_oneof![any::<char>(), awkward];
        prop::collection::vec(character, 0..12).prop_map(String::from_iter)
    }

    proptest! {
        #[test]
        fn the_agent_reads_what_was_asked_for_whatever_the_words(commands in prop::collection::vec(words(), 0..6)) {
            let table: toml::Table = toml::from_str(&text(&commands)).unwrap();
            let usable: Vec<&str> = commands.iter().map(String::as_str).filter(|word| is_usable(word)).collect();
            let found: Vec<&str> =
                table["match_commands"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
            prop_assert_eq!(found, usable);
            read(&commands);
        }
    }

    #[test]
    fn what_the_agent_would_refuse_costs_nobody_the_rest() {
        let mut commands = vec![String::new(), "a\0b".to_owned(), "x".repeat(300), "java".to_owned()];
        assert_eq!(read(&commands), read(&["java".to_owned()]));
        commands.extend((0..200).map(|n| format!("c{n}")));
        read(&commands);
        assert!(parse(&text(&[])).unwrap().is_inert());
    }

    #[test]
    fn the_text_is_for_people_too() {
        let text = text(&["idea".to_owned(), "java".to_owned()]);
        assert!(text.ends_with(
            "match_commands = [\"idea\", \"java\"]\nmatch_argv_substrings = []\npoll_interval_ms = 250\n"
        ));
    }
}
