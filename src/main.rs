//! `5spot`.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use clap::Parser;
use fivespot::api::crd;
use fivespot::cli::{Cli, Command, CrdCommand, CrdFormat};

fn main() -> ExitCode {
    // A wrong call ends here, with a usage message and status 2.
    let done = match Cli::parse().command {
        Command::Crd { command: CrdCommand::Print { format } } => print_definitions(format),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to hear it if stderr is gone as well.
            let _ = writeln!(io::stderr(), "5spot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_definitions(format: CrdFormat) -> Result<(), Box<dyn Error>> {
    let format = match format {
        CrdFormat::Yaml => crd::Format::Yaml,
        CrdFormat::Json => crd::Format::Json,
    };
    let text = crd::render(&crd::definitions(), format)?;
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has what it wanted (`| head`).
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}
