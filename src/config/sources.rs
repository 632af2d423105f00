//! Where values come from: defaults < file < environment < flags, merged by figment.
//!
//! Everything is text until it is checked: the environment has no types, and `POD_NAME=5` is a name. Each value keeps
//! its source, so that a fault can be named where it was made.

use std::ffi::OsString;
use std::fmt;

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use crate::cli::Typed;
use crate::config::ConfigError;
use crate::config::keys::{CONFIG, Key};

/// Variables of ours that no key has are mistakes, but for those that Kubernetes sets for a Service of such a name.
const PREFIX: &str = "FIVESPOT_";

/// A value, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// As it was given.
    pub text: String,
    /// Who said so.
    pub source: Source,
}

/// Who said so, in the words of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody.
    Default(&'static str),
    /// The file: its key and its path.
    File(&'static str, String),
    /// The environment.
    Variable(&'static str),
    /// The command line.
    Flag(&'static str),
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match &self.source {
            Source::Default(name) => write!(f, "{name}={text:?} (the default)"),
            Source::File(name, path) => write!(f, "{name}={text:?} in {path}"),
            Source::Variable(name) => write!(f, "{name}={text:?}"),
            Source::Flag(name) => write!(f, "--{name}={text:?}"),
        }
    }
}

/// All sources, merged.
#[derive(Debug)]
pub(super) struct Values {
    merged: Figment,
    keys: &'static [Key],
}

impl Values {
    /// Reads the file, if one is named, and merges.
    ///
    /// # Errors
    /// A file that cannot be read or has an unknown key or a value of no use, and a variable that is not text.
    pub(super) fn merge(
        keys: &'static [Key],
        typed: &Typed,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let variables = variables(keys, environment)?;
        let path = typed.get(CONFIG.name).map(|text| (text, Source::Flag(CONFIG.name)));
        let path = path.or_else(|| {
            let found = variables.iter().find(|(name, _)| *name == CONFIG.name)?;
            Some((found.1.as_str(), Source::Variable(CONFIG.variable)))
        });
        let file = path.map(|(path, source)| read(keys, path, source)).transpose()?;

        let defaults = keys.iter().filter_map(|key| Some((key.name, key.default?.to_owned())));
        let merged = Figment::new().merge(Layer::new(DEFAULT, defaults));
        let merged = match file {
            Some((path, values)) => merged.merge(Layer::new(&path, values)),
            None => merged,
        };
        let flags = typed.iter().map(|(name, text)| (name, text.to_owned()));
        let merged = merged.merge(Layer::new(ENVIRONMENT, variables)).merge(Layer::new(FLAGS, flags));
        Ok(Self { merged, keys })
    }

    /// What was said last of a key; `None`: nothing.
    pub(super) fn given(&self, name: &str) -> Option<Given> {
        let key = self.keys.iter().find(|key| key.name == name)?;
        let value = self.merged.find_value(name).ok()?;
        let layer = self.merged.get_metadata(value.tag()).map(|metadata| metadata.name.as_ref());
        let source = match layer {
            None | Some(DEFAULT) => Source::Default(key.name),
            Some(ENVIRONMENT) => Source::Variable(key.variable),
            Some(FLAGS) => Source::Flag(key.name),
            Some(path) => Source::File(key.name, path.to_owned()),
        };
        Some(Given { text: value.into_string()?, source })
    }
}

const DEFAULT: &str = "\0default";
const ENVIRONMENT: &str = "\0environment";
const FLAGS: &str = "\0flags";

/// One source, as figment merges it.
struct Layer {
    name: String,
    values: Dict,
}

impl Layer {
    fn new(name: &str, values: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let values = values.into_iter().map(|(key, text)| (key.to_owned(), Value::from(text))).collect();
        Self { name: name.to_owned(), values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

/// An empty variable is unset.
fn variables(
    keys: &'static [Key],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Vec<(&'static str, String)>, ConfigError> {
    let mut found = Vec::new();
    for (variable, value) in environment {
        let Some(variable) = variable.to_str() else { continue };
        match keys.iter().chain([&CONFIG]).find(|key| key.variable == variable) {
            Some(key) if !value.is_empty() => {
                let text = value.into_string();
                found.push((key.name, text.map_err(|_| ConfigError::NotText { variable: key.variable })?));
            }
            None if variable.starts_with(PREFIX) && !is_of_a_service(variable) => {
                return Err(ConfigError::UnknownVariable { variable: variable.to_owned() });
            }
            _ => {}
        }
    }
    Ok(found)
}

/// `FIVESPOT_SERVICE_HOST`, `FIVESPOT_METRICS_PORT_8080_TCP`: made by the kubelet for each Service of the namespace.
fn is_of_a_service(variable: &str) -> bool {
    variable.contains("_SERVICE_") || variable.contains("_PORT")
}

type Read = (String, Vec<(&'static str, String)>);

fn read(keys: &'static [Key], path: &str, source: Source) -> Result<Read, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| ConfigError::File { given: Given { text: path.to_owned(), source }, error })?;
    let dict = toml::from_str::<Dict>(&text)
        .map_err(|error| ConfigError::Toml { path: path.to_owned(), error: error.into() })?;
    let mut values = Vec::new();
    for (name, value) in dict {
        let Some(key) = keys.iter().find(|key| key.name == name) else {
            let known = keys.iter().map(|key| key.name).collect::<Vec<_>>().join(", ");
            return Err(ConfigError::UnknownKey { path: path.to_owned(), key: name, known });
        };
        let text = plain(&value).ok_or(ConfigError::NotPlain { path: path.to_owned(), key: key.name })?;
        values.push((key.name, text));
    }
    Ok((path.to_owned(), values))
}

/// A text, a number, a switch, or a list of texts: in a file one need not quote what is plain without.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, on) => Some(on.to_string()),
        Value::Num(_, number) => {
            number.to_u128().map(|n| n.to_string()).or_else(|| number.to_i128().map(|n| n.to_string()))
        }
        Value::Array(_, items) => {
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            Some(texts?.join(","))
        }
        Value::Char(..) | Value::Empty(..) | Value::Dict(..) => None,
    }
}
