//! What was typed, and nothing else: no defaults of the program's, no meaning. The settings come from `config::keys`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::{EnumValueParser, PathBufValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueEnum};

use crate::config::keys::{self, CONFIG, Key};

/// Runs the controller when called by this name.
const CONTROLLER: &str = "5spot-controller";
/// Runs the reclaim agent when called by this name.
const RECLAIM_AGENT: &str = "5spot-reclaim-agent";

const ABOUT: &str = "Lends idle machines to Kubernetes clusters by the clock, and gives them back.";
const CONTROLLER_ABOUT: &str = "Run the controller, in the Cluster API management cluster";
const AGENT_ABOUT: &str = "Run the reclaim agent, on a machine that is lent";
const STATUS: &str = "Settings: flag > environment > file > default; an empty variable is unset.\n\
                      Exit status: 0 fine, 1 failure, 2 usage or configuration.";

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Run the controller.
    Controller(Typed),
    /// Run the reclaim agent.
    Agent(Typed),
    /// Print the definitions of our kinds.
    PrintDefinitions(CrdFormat),
}

/// How definitions are written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CrdFormat {
    /// One document for each.
    Yaml,
    /// One List.
    Json,
}

/// Settings that were typed; what was not is absent, so that variables and defaults can fill it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Typed {
    settings: Vec<(&'static str, String)>,
    /// `--oneshot`, the agent's.
    pub is_oneshot: bool,
    /// `--rules`, with it.
    pub rules: Option<PathBuf>,
}

impl Typed {
    /// Name of the flag without dashes, and its text.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.settings.iter().map(|(name, text)| (*name, text.as_str()))
    }

    /// What was typed for one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(typed, _)| *typed == name).map(|(_, text)| text)
    }

    fn of(keys: &'static [Key], matches: &ArgMatches) -> Self {
        let typed = |key: &Key| Some((key.name, matches.get_one::<String>(key.name)?.clone()));
        Self { settings: keys.iter().chain([&CONFIG]).filter_map(typed).collect(), ..Self::default() }
    }
}

/// Reads a command line, the program's name first.
///
/// # Errors
/// A wrong call, and a call for help or the version: clap's error prints itself and knows its exit status.
pub fn read(line: impl IntoIterator<Item = OsString>) -> Result<Call, clap::Error> {
    let line: Vec<OsString> = line.into_iter().collect();
    let called = line.first().and_then(|path| Path::new(path).file_name()).and_then(OsStr::to_str);
    if called == Some(CONTROLLER) {
        let matches = controller(CONTROLLER).try_get_matches_from(line)?;
        return Ok(Call::Controller(Typed::of(&keys::CONTROLLER, &matches)));
    }
    if called == Some(RECLAIM_AGENT) {
        return Ok(Call::Agent(typed_for_agent(&agent(RECLAIM_AGENT).try_get_matches_from(line)?)));
    }
    let matches = program().try_get_matches_from(line)?;
    match matches.subcommand() {
        None => Ok(Call::Controller(Typed::of(&keys::CONTROLLER, &matches))),
        Some(("controller", of)) => Ok(Call::Controller(Typed::of(&keys::CONTROLLER, of))),
        Some(("reclaim-agent", of)) => Ok(Call::Agent(typed_for_agent(of))),
        Some(("crd", of)) => Ok(print_definitions(of)),
        Some((other, _)) => Err(program().error(ErrorKind::InvalidSubcommand, other)),
    }
}

/// Without a subcommand it is the controller, and takes the same flags. Each role is a subcommand here, a name in
/// [`read`] and a [`Call`].
fn program() -> Command {
    let format = Arg::new("format")
        .long("format")
        .value_parser(EnumValueParser::<CrdFormat>::new())
        .default_value("yaml")
        .help("How they are written down");
    let print = Command::new("print").about("Print them, ready for `kubectl apply -f -`").arg(format);
    let crd = Command::new("crd")
        .about("The definitions of our kinds")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(print);
    controller("5spot")
        .about(ABOUT)
        .override_usage("5spot [OPTIONS]\n       5spot <COMMAND>")
        .subcommand(controller("controller"))
        .subcommand(agent("reclaim-agent"))
        .subcommand(crd)
        .args_conflicts_with_subcommands(true)
}

fn controller(name: &'static str) -> Command {
    let examples = format!(
        "Examples:\n  {CONTROLLER} --log-format text --watch-namespace machines -v\n  \
         METRICS_PORT=9090 {CONTROLLER} --config /etc/5spot/controller.toml\n\n{STATUS}"
    );
    role(name, CONTROLLER_ABOUT, &keys::CONTROLLER).after_help(examples)
}

/// The reclaim agent's flags, under the name by which it is called.
fn agent(name: &'static str) -> Command {
    let oneshot = Arg::new("oneshot")
        .long("oneshot")
        .action(ArgAction::SetTrue)
        .help("Run the detector once, print what it found as one line of JSON, and exit; changes nothing");
    let rules = Arg::new("rules")
        .long("rules")
        .value_name("FILE")
        .value_parser(PathBufValueParser::new())
        .requires("oneshot")
        .help("With --oneshot: rules from a file (the ConfigMap's reclaim.toml) instead of the cluster's");
    let examples = format!(
        "Examples:\n  {RECLAIM_AGENT} --node-name ws-17 --detector poll\n  \
         {RECLAIM_AGENT} --oneshot --rules reclaim.toml\n\n{STATUS}"
    );
    role(name, AGENT_ABOUT, &keys::AGENT).arg(oneshot).arg(rules).after_help(examples)
}

/// What was typed for the agent, of a line that [`agent`] has matched.
fn typed_for_agent(matches: &ArgMatches) -> Typed {
    Typed {
        is_oneshot: matches.get_flag("oneshot"),
        rules: matches.get_one::<PathBuf>("rules").cloned(),
        ..Typed::of(&keys::AGENT, matches)
    }
}

fn role(name: &'static str, about: &'static str, keys: &'static [Key]) -> Command {
    let command = Command::new(name).version(env!("CARGO_PKG_VERSION")).about(about).max_term_width(120);
    keys.iter().chain([&CONFIG]).fold(command, |command, key| command.arg(arg(key)))
}

fn arg(key: &'static Key) -> Arg {
    let arg = Arg::new(key.name).long(key.name).help(key.shown()).action(ArgAction::Set);
    let arg = match key.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match key.value {
        Some(value) => arg.value_name(value),
        // It may stand alone.
        None => arg.value_name("BOOL").num_args(0..=1).default_missing_value("true"),
    }
}

fn print_definitions(of: &ArgMatches) -> Call {
    let format = of.subcommand().and_then(|(_, print)| print.get_one::<CrdFormat>("format"));
    Call::PrintDefinitions(format.copied().unwrap_or(CrdFormat::Yaml))
}
