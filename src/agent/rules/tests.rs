use std::time::Duration;

use super::*;

/// A process out of a table.
#[derive(Clone, Copy, Default)]
struct Told {
    name: &'static [u8],
    line: &'static [u8],
    executable: Option<&'static [u8]>,
    owner: Option<u32>,
    age: Option<Duration>,
}

impl Process for Told {
    fn name(&self) -> &[u8] {
        self.name
    }
    fn command_line(&self) -> &[u8] {
        self.line
    }
    fn executable(&self) -> Option<&[u8]> {
        self.executable
    }
    fn owner(&self) -> Option<u32> {
        self.owner
    }
    fn age(&self) -> Option<Duration> {
        self.age
    }
}

fn told(name: &'static str, line: &'static str) -> Told {
    Told { name: name.as_bytes(), line: line.as_bytes(), owner: Some(1000), ..Told::default() }
}

fn rules(text: &str) -> Rules {
    parse(text).unwrap()
}

fn by(text: &str, process: &Told) -> Option<(String, By)> {
    rules(text).matches(process).map(|found| (found.rule, found.by))
}

#[test]
fn a_command_matches_the_kernels_name_the_first_arguments_and_the_executables() {
    let java = r#"match_commands = ["java"]"#;
    let named = |by| Some(("java".to_owned(), by));
    assert_eq!(by(java, &told("java", "/opt/idea/jbr/bin/java\0-jar\0")), named(By::Name));
    assert_eq!(by(java, &told("main", "/usr/bin/java\0-jar\0x\0")), named(By::Argument));
    assert_eq!(by(java, &told("main", "java\0")), named(By::Argument));
    let executable = Told { executable: Some(b"/usr/lib/jvm/bin/java"), ..told("main", "title") };
    assert_eq!(by(java, &executable), named(By::Executable));
    for other in [told("javac", "/usr/bin/javac\0"), told("vim", "vim\0Main.java\0"), told("", "")] {
        assert_eq!(by(java, &other), None);
    }
    let drive = told("wine", "C:\\Games\\java\0");
    assert_eq!(by(java, &drive), named(By::Argument));
}

#[test]
fn a_command_with_a_path_is_the_whole_path() {
    let rules = r#"match_commands = ["/opt/a/run"]"#;
    assert!(by(rules, &told("run", "/opt/a/run\0")).is_some());
    assert!(by(rules, &told("run", "/opt/b/run\0")).is_none());
}

#[test]
fn names_longer_than_the_kernels_match_unless_something_says_otherwise() {
    let rules = r#"match_commands = ["SpaceCadetPinball"]"#;
    let matched = |line, executable| {
        let process = Told { executable, ..told("SpaceCadetPinba", line) };
        by(rules, &process).is_some()
    };
    assert!(matched("/games/SpaceCadetPinball\0", None));
    assert!(
        matched("/bin/bash\0-e\0/games/SpaceCadetPinball\0", Some(b"/usr/bin/bash".as_slice())),
        "a script"
    );
    assert!(matched("", None), "nothing contradicts");
    assert!(matched("some title", Some(b"/games/SpaceCadetPinball".as_slice())));
    assert!(!matched("/games/SpaceCadetPinbaX\0", None), "another name that is cut alike");
    assert!(!matched("x\0", Some(b"/games/SpaceCadetPinball2".as_slice())));
    // Exactly what the kernel keeps, and one letter more.
    assert!(by(r#"match_commands = ["SpaceCadetPinba"]"#, &told("SpaceCadetPinba", "x\0")).is_some());
    assert!(by(r#"match_commands = ["SpaceCadetPinbal"]"#, &told("SpaceCadetPinb", "x\0")).is_none());
}

#[test]
fn names_and_arguments_are_bytes() {
    let unicode = "match_commands = [\"schach-für-zwei\"]\nmatch_argv_substrings = [\"/home/josé\"]";
    // Fifteen letters and sixteen bytes: the kernel cuts the last.
    assert!(by(unicode, &told("schach-für-zwe", "schach-für-zwei\0")).is_some());
    assert!(by(unicode, &told("schach-für-zwe", "schach-für-zwerge\0")).is_none());
    assert!(by(unicode, &told("x", "x\0--dir=/home/josé/src\0")).is_some());
    let odd = Told { name: b"a\xff\n b)", line: b"\xff\xfe\0/home/jos\xc3\xa9\0", ..Told::default() };
    assert_eq!(by(unicode, &odd).map(|found| found.1), Some(By::CommandLine));
}

#[test]
fn a_substring_runs_over_arguments_with_blanks_between_and_not_over_the_end() {
    let rules = r#"match_argv_substrings = ["-jar idea", "end "]"#;
    assert_eq!(
        by(rules, &told("java", "java\0-jar\0idea.jar\0")),
        Some(("-jar idea".into(), By::CommandLine))
    );
    assert!(by(rules, &told("x", "x\0the end\0")).is_none());
    assert!(by(rules, &told("x", "")).is_none());
}

#[test]
fn what_is_ignored_or_anothers_does_not_match() {
    let ignored = "match_argv_substrings = [\"java\"]\nignore_commands = [\"vim\"]";
    assert!(by(ignored, &told("vim", "vim\0Main.java\0")).is_none());
    assert!(by(ignored, &told("emacs", "emacs\0Main.java\0")).is_some());
    let owned = "match_commands = [\"java\"]\nmatch_uids = [1000, 1001]";
    assert!(by(owned, &told("java", "java\0")).is_some());
    assert!(by(owned, &Told { owner: Some(0), ..told("java", "java\0") }).is_none());
    assert!(by(owned, &Told { owner: None, ..told("java", "java\0") }).is_none());
    let anybody = "match_commands = [\"java\"]\nmatch_uids = []";
    assert!(by(anybody, &told("java", "java\0")).is_some());
}

#[test]
fn a_young_process_is_asked_for_again_at_its_age() {
    let rules = rules("match_commands = [\"java\"]\nmin_age_ms = 5000");
    let aged = |millis| Told { age: Some(Duration::from_millis(millis)), ..told("java", "java\0") };
    assert_eq!(rules.judge(&aged(1200)), Verdict::Later(Duration::from_millis(3800)));
    assert!(matches!(rules.judge(&aged(5000)), Verdict::Found(_)));
    assert_eq!(rules.judge(&Told { age: None, ..aged(0) }), Verdict::Nothing, "it is gone");
    let other = Told { name: b"vim", line: b"vim\0", ..aged(1) };
    assert_eq!(rules.judge(&other), Verdict::Nothing);
}

#[test]
fn rules_without_anything_to_match_are_inert() {
    for text in ["", "poll_interval_ms = 100", "match_commands = []\nmatch_argv_substrings = []"] {
        assert!(rules(text).is_inert(), "{text}");
    }
    assert!(!rules("match_commands = [\"x\"]").is_inert());
    assert_eq!(rules("").poll_interval(), Duration::from_millis(250));
    assert_eq!(rules("poll_interval_ms = 1_000").poll_interval(), Duration::from_secs(1));
}

#[test]
fn every_fault_is_named_with_its_line_and_key() {
    let long = "x".repeat(257);
    let many = (0..101).map(|n| format!("\"c{n}\"")).collect::<Vec<_>>().join(",");
    let rows: &[(&str, &[&str])] = &[
        ("match_commands = [\n", &["line "]),
        ("match_commands = \"java\"", &["line 1: match_commands: has to be a list in brackets, not string"]),
        (
            "\nmatch_commands = [\"a\",\n 5]",
            &["line 3: match_commands[1]: has to be text in quotes, not integer"],
        ),
        (
            "match_argv_substrings = [\"\"]",
            &["line 1: match_argv_substrings[0]: is empty, which would match"],
        ),
        ("match_commands = [\"a\\u0000\"]", &["match_commands[0]: holds a NUL"]),
        (
            "poll_interval_ms = 0",
            &["line 1: poll_interval_ms: has to be a whole number of milliseconds from 1 to"],
        ),
        ("poll_interval_ms = -5", &["poll_interval_ms: has to be"]),
        ("poll_interval_ms = \"250\"", &["poll_interval_ms: has to be"]),
        ("poll_interval_ms = 2.5", &["poll_interval_ms: has to be"]),
        (
            "min_age_ms = 86400001",
            &["min_age_ms: has to be a whole number of milliseconds from 0 to 86400000"],
        ),
        ("match_uids = [\"me\", 4294967295, -1]", &["match_uids[0]", "match_uids[1]", "match_uids[2]"]),
        (
            "# the owner's\nmatch_comands = []\nmin_age_ms = true",
            &["line 2: match_comands: there is no such key; there are match_commands,", "line 3: min_age_ms"],
        ),
        (&format!("ignore_commands = [\"{long}\"]"), &["ignore_commands[0]: has more than 256 characters"]),
        (&format!("match_commands = [{many}]"), &["match_commands: has 101 entries; at most 100"]),
    ];
    for (text, expected) in rows {
        let faults = parse(text).unwrap_err();
        assert!(faults.0.len() >= expected.len(), "{text}: {faults}");
        for (fault, words) in faults.0.iter().zip(*expected) {
            assert!(fault.to_string().contains(words), "{text}: {fault}");
        }
    }
}

#[test]
fn a_fault_is_of_one_of_three_kinds() {
    for (text, flaws) in [
        ("match_commands = [\n", [Flaw::Syntax].as_slice()),
        ("match_commands = []\nmatch_commands = []", &[Flaw::Syntax]),
        ("match_comands = []", &[Flaw::Key]),
        ("poll_interval_ms = 0", &[Flaw::Value]),
        ("match_commands = [\"\"]\nno = 1", &[Flaw::Value, Flaw::Key]),
    ] {
        let found: Vec<Flaw> = parse(text).unwrap_err().0.iter().map(|fault| fault.flaw).collect();
        assert_eq!(found, flaws, "{text}");
    }
}

#[test]
fn what_the_predecessor_wrote_is_read() {
    let text = "# Written by the controller.\n# Do not edit.\nmatch_commands = [\n  \"java\",\n  \"idea\",\n]\n\
                match_argv_substrings = []\npoll_interval_ms = 250\n";
    assert!(by(text, &told("idea", "/bin/sh\0idea\0")).is_some());
}
