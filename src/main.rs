//! `5spot`: subcommand, run, exit status.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use fivespot::agent::{self, oneshot, rules};
use fivespot::api::crd;
use fivespot::api::names::AGENT;
use fivespot::cli::{self, Call, CrdFormat, Typed};
use fivespot::config::{AgentTask, ControllerConfig};
use fivespot::controller::census::Census;
use fivespot::controller::{self, Instruments, Settings, about};
use fivespot::leadership::candidate::Terms;
use fivespot::leadership::duties::Duties;
use fivespot::leadership::election::{Election, Share, holder};
use fivespot::leadership::fence::FenceLayer;
use fivespot::runtime::{StopSignals, Tasks};
use fivespot::telemetry::admin::{self, Port, Purpose};
use fivespot::telemetry::answers::Answers;
use fivespot::telemetry::health::Health;
use fivespot::telemetry::metrics::{Calls, ControllerMetrics, Registry};
use fivespot::{config, telemetry};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::Api;
use kube::client::ClientBuilder;
use tokio::sync::watch;

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    // A wrong call ends here, with a usage message and status 2; so does a call for help, with status 0.
    match cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit()) {
        Call::Controller(typed) => run_controller(&typed),
        Call::Agent(typed) => run_agent(&typed),
        Call::PrintDefinitions(format) => exit(print_definitions(format), ExitCode::FAILURE),
    }
}

fn exit(outcome: Result<(), Failure>, failed: ExitCode) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to hear it if stderr is gone as well.
            let _ = writeln!(io::stderr(), "5spot: {error}");
            failed
        }
    }
}

fn run_controller(typed: &Typed) -> ExitCode {
    let config = match config::controller(typed, std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => return exit(Err(error.into()), ExitCode::from(2)),
    };
    if let Err(error) = telemetry::logs::start(&config.logs) {
        return exit(Err(error.into()), ExitCode::from(2));
    }
    telemetry::logs::end_on_panic();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    exit(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(config))), ExitCode::FAILURE)
}

async fn serve(config: ControllerConfig) -> Result<(), Failure> {
    let mut signals = StopSignals::listen()?;
    let ports = (
        Port::bind(config.metrics_port, Purpose::Metrics)?,
        Port::bind(config.health_port, Purpose::Health)?,
    );
    let (mut registry, health) = (Registry::default(), Health::default());
    let instance_id = config.shard.id.to_string();
    let metrics = ControllerMetrics::register(&mut registry, env!("CARGO_PKG_VERSION"), &instance_id);
    let calls = Calls::register(&mut registry);
    let answers = Answers::default();
    let calls_noted = calls.noting(answers.clone());
    let client =
        ClientBuilder::try_from(connection().await?)?.with_layer(&calls_noted).with_layer(&FenceLayer);
    let mut tasks = Tasks::new(health.clone());
    let (tell_end, nothing_is_written) = watch::channel(());
    let duties = stand(&config, &calls, &metrics, &mut tasks, nothing_is_written).await?;
    let settings = Settings {
        namespace: config.watch_namespace,
        allowed_groups: config.allowed_groups,
        concurrent_creates: config.concurrent_creates,
        instance: config.instance,
    };
    let (stopping, mut intake_end) = watch::channel(false);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), namespace = settings.namespace, "controller starts");
    let instruments = Instruments { metrics, calls, health: health.clone(), answers: answers.clone() };
    let stop = async move {
        // An error means that the sender is gone, and with it the process.
        let _ = intake_end.wait_for(|stop| *stop).await;
    };
    let world = controller::start(client.build(), &settings, instruments, duties.clone(), &mut tasks, stop);
    Census::of(&world).register(&mut registry);
    health.needs("API server", {
        let answers = answers.clone();
        move || answers.lately()
    });
    let about = move || about::status(&world, &duties, &answers, &settings.instance);
    let sites = vec![
        (ports.0, admin::metrics_site(Arc::new(registry))),
        (ports.1, admin::health_site(health.clone(), about)),
    ];
    tasks.spawn("http", admin::serve(sites)?);
    tokio::select! {
        () = signals.next() => {}
        end = tasks.first_end() => return Err(end.into()),
    }
    tracing::info!("stopping: no new passes");
    health.needs("process", || Err("stopping".to_owned()));
    stopping.send_replace(true);
    tokio::select! {
        () = signals.next() => return Err("stopped by a second signal".into()),
        () = tasks.wind_down("passes", || drop(tell_end)) => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// What this replica acts on. If it is to be elected, it stands for its Lease from now on, and lets it go once
/// `nothing_is_written` any more.
async fn stand(
    config: &ControllerConfig,
    calls: &Calls,
    metrics: &ControllerMetrics,
    tasks: &mut Tasks,
    mut nothing_is_written: watch::Receiver<()>,
) -> Result<Duties, Failure> {
    if !config.is_elected {
        let duties = Duties::shard(config.shard.id, config.shard.count);
        metrics.set_shards(1, usize::from(config.shard.count));
        return Ok(duties);
    }
    let terms = &config.election;
    let client = ClientBuilder::try_from(connection().await?)?.with_layer(calls).build();
    let leases = Api::namespaced(client, &terms.lease_namespace);
    let (name, me) = (&terms.lease_name, holder(config.pod.as_deref()));
    let terms = Terms {
        duration: terms.duration,
        renew_deadline: terms.renew_deadline,
        retry_period: terms.retry_period,
    };
    let share = Share { own: config.shard.id, count: config.shard.count };
    let election = Election::new(leases, name, &me, terms, share);
    let duties = Duties::elected(election.proofs());
    metrics.set_shards(0, usize::from(share.count));
    let (metrics, told) = (metrics.clone(), duties.clone());
    let stop = async move {
        // Only ever an error: the other end is dropped.
        let _ = nothing_is_written.changed().await;
    };
    let changed = move || {
        let (count, held) = told.held();
        metrics.set_shards(held.len(), count);
        told.tell();
    };
    tasks.spawn_lasting("leader election", election.run(stop, changed));
    Ok(duties)
}

async fn connection() -> Result<kube::Config, Failure> {
    let mut config = kube::Config::infer().await?;
    // kube's own retries can keep one call for minutes; ours are per object and seen in its status.
    config.default_retry = false;
    // kube names no agent of its own; in an audit log we want to be found.
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    Ok(config)
}

fn run_agent(typed: &Typed) -> ExitCode {
    let config = match config::agent(typed, std::env::vars_os()) {
        Ok(config) => config,
        Err(error) => return exit(Err(error.into()), ExitCode::from(2)),
    };
    if let Err(error) = telemetry::logs::start(&config.logs) {
        return exit(Err(error.into()), ExitCode::from(2));
    }
    telemetry::logs::end_on_panic();
    // One thread is enough for what it waits for, and it lives on somebody's workstation.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return exit(Err(error.into()), ExitCode::FAILURE),
    };
    let look = match &config.task {
        AgentTask::Watch { node } => {
            let watched = runtime.block_on(agent::watch_over(&config, node));
            return exit(watched.map_err(Into::into), ExitCode::FAILURE);
        }
        AgentTask::OnceForNode { node } => Ok(runtime.block_on(agent::look_for_node(&config, node))),
        AgentTask::OnceByFile { rules } => match rules_of(rules) {
            Ok(rules) => Ok(runtime.block_on(agent::look_by_rules(&config, rules))),
            Err(error) => return exit(Err(error), ExitCode::from(2)),
        },
    };
    let shown = look.and_then(|look| oneshot::print(&look, io::stdout()).map(|()| look.is_healthy));
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => exit(Err(error.into()), ExitCode::FAILURE),
    }
}

fn rules_of(path: &Path) -> Result<rules::Rules, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| format!("--rules {}: {error}", path.display()))?;
    Ok(rules::parse(&text).map_err(|faults| format!("--rules {}: {faults}", path.display()))?)
}

fn print_definitions(format: CrdFormat) -> Result<(), Failure> {
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
