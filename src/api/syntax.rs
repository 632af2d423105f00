//! Forms of names and words, as the API server checks them: what admission refuses, the controller refuses too, or an
//! object stored under an older schema would be passed on as it is.

/// Longest part of a name, and longest value of a label.
const LONGEST_NAME: usize = 63;
/// Longest type of a condition.
const LONGEST_CONDITION: usize = 316;
/// Longest domain, and longest name of most objects.
const LONGEST_DOMAIN: usize = 253;

fn is_framed(text: &str, end: impl Fn(char) -> bool, inner: impl Fn(char) -> bool) -> bool {
    text.chars().all(inner) && text.starts_with(&end) && text.ends_with(&end)
}

/// Letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit; at most 63.
pub fn is_name_part(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= LONGEST_NAME && is_framed(text, |c| c.is_ascii_alphanumeric(), inner)
}

/// As the value of a label: a name, or nothing.
pub fn is_label_value(text: &str) -> bool {
    text.is_empty() || is_name_part(text)
}

fn is_dns_label(text: &str) -> bool {
    let end = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    is_framed(text, end, |c| end(c) || c == '-')
}

/// As the name of most objects: lower-case letters, digits, `-` and `.`; at most 253.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= LONGEST_DOMAIN && text.split('.').all(is_dns_label)
}

/// As the key of a label or an annotation: a name, after an optional lower-case domain and a slash.
pub fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => is_object_name(domain) && is_name_part(name),
        None => is_name_part(text),
    }
}

/// As the name of a Cluster: a label value that begins with a letter or digit and is not empty.
pub fn is_cluster_name(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.len() <= LONGEST_NAME
        && text.chars().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// As the type of a condition: a name of any length, after an optional domain and a slash.
pub fn is_condition_type(text: &str) -> bool {
    let (domain, name) = text.split_once('/').map_or((None, text), |(domain, name)| (Some(domain), name));
    let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_name = is_framed(name, |c| c.is_ascii_alphanumeric(), inner);
    text.len() <= LONGEST_CONDITION && domain.is_none_or(is_object_name) && is_name
}

/// `group/version`.
pub fn is_api_version(text: &str) -> bool {
    text.split_once('/').is_some_and(|(group, version)| is_object_name(group) && is_dns_label(version))
}

/// A kind as a cluster serves it.
pub fn is_kind(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let framed = is_framed(text, |c| c.is_ascii_alphanumeric(), inner);
    text.len() <= LONGEST_NAME && framed && text.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// The key of a Secret.
pub fn is_secret_key(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !text.is_empty() && text.len() <= LONGEST_DOMAIN && text.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_hold_at_their_edges() {
        let long = "a".repeat(63);
        for good in ["a", "A-1_x.9", &long] {
            assert!(is_name_part(good) && is_label_value(good) && is_qualified_name(good), "{good}");
        }
        for bad in ["-a", "a-", "a b", "\u{e4}", &"a".repeat(64)] {
            assert!(!is_name_part(bad) && !is_label_value(bad) && !is_qualified_name(bad), "{bad}");
        }
        assert!(is_label_value("") && !is_name_part("") && !is_qualified_name("") && !is_object_name(""));
        for good in ["example.com/x", "a.b-c.example/X_1.y"] {
            assert!(is_qualified_name(good), "{good}");
        }
        for bad in ["/x", "example.com/", "a/b/c", "Example.com/x", "a..b/x", "-a/x"] {
            assert!(!is_qualified_name(bad), "{bad}");
        }
        for (text, good) in [("risk-1.grid_A-", true), ("-risk", false), ("risk/grid", false), ("", false)] {
            assert_eq!(is_cluster_name(text), good, "{text}");
        }
        let versions = [
            ("a.example/v1", true),
            ("v1", false),
            ("a.example/", false),
            ("a.example/v1/secrets", false),
            ("/v1", false),
        ];
        for (text, good) in versions {
            assert_eq!(is_api_version(text), good, "{text}");
        }
        for (text, good) in
            [("RemoteMachine", true), ("K0s-x", true), ("Remote/Machine", false), ("0K", false), ("", false)]
        {
            assert_eq!(is_kind(text), good, "{text}");
        }
        let types =
            [("Burnt-In", true), ("a.example/Burnt", true), ("a b", false), ("", false), ("a/b/c", false)];
        for (text, good) in types {
            assert_eq!(is_condition_type(text), good, "{text}");
        }
        for (text, good) in [("value", true), (".a_b-c", true), ("a/b", false), ("", false)] {
            assert_eq!(is_secret_key(text), good, "{text}");
        }
    }
}
