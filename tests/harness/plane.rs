//! A management and a workload control plane.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tokio::sync::OnceCell;

use super::apiserver::{self, Ground};
use super::audit::Audit;
use super::binaries::Binaries;
use super::capi::Release;
use super::process::{Component, Keeper, ready};
use super::provider::Provider;
use super::{Result, capi, etcd, kwok, manifests, ports, provider, runtime, say};

/// The pair that the tests of one binary share: started by the first that asks, ended with the process.
pub async fn shared() -> &'static ControlPlanes {
    shared_with(Options::default()).await
}

/// The same, of a binary whose tests want it otherwise: all of them ask for it so, before anything else.
pub async fn shared_with(options: Options) -> &'static ControlPlanes {
    static SHARED: OnceCell<Result<ControlPlanes, String>> = OnceCell::const_new();
    let start = || async {
        // On the harness's runtime: that of the test which happens to ask first ends with it.
        let started = runtime::run(|| ControlPlanes::start(options)).await;
        started.map_err(|e| e.to_string()).and_then(|result| result.map_err(|e| e.to_string()))
    };
    match SHARED.get_or_init(start).await {
        Ok(planes) => planes,
        Err(trouble) => panic!("no control planes: {trouble}"),
    }
}

/// A client for a kubeconfig. Clients belong to the runtime they were made on: each test makes its own.
pub async fn client_from(kubeconfig: &str) -> Result<Client> {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Options {
    /// The workload plane, kwok on it, Cluster API and the stub provider. Without them only etcd and the
    /// management API server with its controllers start.
    pub cluster_api: bool,
    /// Which Cluster API; `None`: it is installed later, by [`ControlPlanes::install_capi`].
    pub release: Option<Release>,
    /// Flags for Cluster API's manager. It reconciles an object at most once a second, which makes a
    /// Machine's way to Running, and out again, take 3 s each: `--feature-gates=ReconcilerRateLimiting=false`
    /// is faster, and less real.
    pub capi_args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cluster_api: true, release: Some(Release::V1_14), capi_args: Vec::new() }
    }
}

/// One API server with its controllers.
#[derive(Debug)]
pub struct Plane {
    name: &'static str,
    port: u16,
    server: String,
    kubeconfig: PathBuf,
    admin: String,
    ground: Arc<Ground>,
    apiserver: Mutex<Component>,
    controllers: Mutex<Component>,
}

impl Plane {
    async fn start(ground: Arc<Ground>, name: &'static str, cidr: &str, with_nodes: bool) -> Result<Self> {
        let (component, port) = apiserver::start(&ground, name, cidr).await?;
        let server = format!("https://127.0.0.1:{port}");
        let kubeconfig =
            ground.kubeconfig(&format!("{name}.kubeconfig"), &server, "admin", &["system:masters"])?;
        let admin = std::fs::read_to_string(&kubeconfig)?;
        let client = client_from(&admin).await?;
        let controllers = apiserver::start_controllers(&ground, name, &server, &client, with_nodes).await?;
        let (apiserver, controllers) = (Mutex::new(component), Mutex::new(controllers));
        Ok(Self { name, port, server, kubeconfig, admin, ground, apiserver, controllers })
    }

    /// `management` or `workload`.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its address.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Its port on the loopback interface.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A kubeconfig file of user `admin`.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The same as text.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// A new client of user `admin`.
    pub async fn client(&self) -> Client {
        client_from(&self.admin).await.expect("a client")
    }

    /// A new client of that user, in groups beyond `system:authenticated`.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Client {
        client_from(&self.issue_kubeconfig(user, groups)).await.expect("a client")
    }

    /// A kubeconfig with a client certificate: the audit log then tells who did what.
    pub fn issue_kubeconfig(&self, user: &str, groups: &[&str]) -> String {
        let identity = self.ground.authority.client(user, groups).expect("a client certificate");
        self.ground.authority.kubeconfig(&self.server, &identity)
    }

    /// What both planes of the pair share: directory, binaries, certificate authority.
    pub fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// Who called what on this plane.
    pub fn audit(&self) -> Audit {
        Audit::of(apiserver::audit_log(&self.ground, self.name))
    }

    /// SIGKILLs the API server.
    pub fn stop_apiserver(&self) {
        self.apiserver.lock().unwrap_or_else(PoisonError::into_inner).kill();
    }

    /// Kills the API server, unless it is down, and starts it on the same port with the same data.
    pub async fn restart_apiserver(&self) {
        let dir = &self.ground.dir;
        self.apiserver.lock().unwrap_or_else(PoisonError::into_inner).restart(dir).expect("an API server");
        self.until_ready().await;
    }

    async fn until_ready(&self) {
        let deadline = Instant::now() + Duration::from_secs(180);
        while !apiserver::is_ready(&self.admin).await {
            let tail = {
                let mut apiserver = self.apiserver.lock().unwrap_or_else(PoisonError::into_inner);
                (apiserver.ended().is_some() || Instant::now() > deadline).then(|| apiserver.tail())
            };
            if let Some(tail) = tail {
                panic!("the {} API server did not come back\n{tail}", self.name);
            }
            // Whoever would tell is the one that is coming up.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Cluster API as it runs.
#[derive(Debug)]
struct ClusterApi {
    component: Component,
    webhook_port: u16,
    release: Release,
}

/// The pair, with all that runs on it.
#[derive(Debug)]
pub struct ControlPlanes {
    // Dropped in this order: who depends on another goes first, and the directory last.
    provider: Option<Provider>,
    capi: Mutex<Option<ClusterApi>>,
    capi_args: Vec<String>,
    kwok: Option<Mutex<Component>>,
    workload: Option<Plane>,
    management: Plane,
    etcd: Mutex<Component>,
    keeper: Mutex<Keeper>,
    ground: Arc<Ground>,
}

async fn start_capi(plane: &Plane, release: Release, args: &[String]) -> Result<ClusterApi> {
    let client = plane.client().await;
    let (component, webhook_port) =
        capi::start(plane.ground(), release, plane.server(), &client, args).await?;
    Ok(ClusterApi { component, webhook_port, release })
}

impl ControlPlanes {
    /// Starts a pair of one's own, for tests that stop its servers.
    pub async fn start(options: Options) -> Result<Self> {
        let binaries = tokio::task::spawn_blocking(Binaries::locate).await??;
        let started = Instant::now();
        let keeper = Keeper::start()?;
        let (etcd, url) = etcd::start(keeper.dir(), &binaries).await?;
        let ground = Arc::new(Ground::new(keeper.dir(), binaries, url)?);
        let management = async {
            let plane = Plane::start(ground.clone(), "management", "10.96.0.0/16", false).await?;
            let mut capi = None;
            if options.cluster_api {
                manifests::install(&plane.client().await, provider::crds()?).await?;
                if let Some(release) = options.release {
                    capi = Some(start_capi(&plane, release, &options.capi_args).await?);
                }
            }
            Result::<_>::Ok((plane, Mutex::new(capi)))
        };
        let workload = async {
            if !options.cluster_api {
                return Ok((None, None));
            }
            let plane = Plane::start(ground.clone(), "workload", "10.97.0.0/16", true).await?;
            let kwok = kwok::start(&ground, plane.server()).await?;
            Ok((Some(plane), Some(Mutex::new(kwok))))
        };
        let ((management, capi), (workload, kwok)) = futures::future::try_join(management, workload).await?;
        let provider = match &workload {
            Some(workload) => {
                // What comes later comes as an old release, and is replaced by a newer one that serves the same.
                let version = options.release.unwrap_or(Release::V1_10).version();
                Some(Provider::start(&management, workload, version).await?)
            }
            None => None,
        };
        say(&format!("up in {:.1} s", started.elapsed().as_secs_f64()));
        let (etcd, keeper) = (Mutex::new(etcd), Mutex::new(keeper));
        let capi_args = options.capi_args;
        Ok(Self { provider, capi, capi_args, kwok, workload, management, etcd, keeper, ground })
    }

    /// Where `ScheduledMachine`s, Clusters and Machines are.
    pub fn management(&self) -> &Plane {
        &self.management
    }

    /// Where Nodes and pods are.
    pub fn workload(&self) -> &Plane {
        self.workload.as_ref().expect("started without a workload plane")
    }

    /// The stub provider, to change its behaviour.
    pub fn provider(&self) -> &Provider {
        self.provider.as_ref().expect("started without a provider")
    }

    /// Logs, certificates and data.
    pub fn dir(&self) -> &Path {
        &self.ground.dir
    }

    /// The binaries, for tests that run kubectl.
    pub fn binaries(&self) -> &Binaries {
        &self.ground.binaries
    }

    /// Process ids, by component.
    pub fn pids(&self) -> Vec<(String, u32)> {
        let mut pids = Vec::new();
        self.each(|component| pids.push((component.name().to_owned(), component.pid())));
        pids
    }

    fn each(&self, mut act: impl FnMut(&mut Component)) {
        if let Some(capi) = self.capi().as_mut() {
            act(&mut capi.component);
        }
        for component in self.components() {
            act(&mut component.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn capi(&self) -> MutexGuard<'_, Option<ClusterApi>> {
        self.capi.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn components(&self) -> impl Iterator<Item = &Mutex<Component>> {
        let planes = [Some(&self.management), self.workload.as_ref()].into_iter().flatten();
        let planes = planes.flat_map(|plane| [&plane.controllers, &plane.apiserver]);
        self.kwok.iter().chain(planes).chain([&self.etcd])
    }

    /// SIGKILLs Cluster API's manager: its webhooks are gone too, so Machines can be neither created nor
    /// changed.
    pub fn stop_capi(&self) {
        self.capi().as_mut().expect("Cluster API runs").component.kill();
    }

    /// Installs that release of Cluster API, in the place of another one if there is one, as an upgrade does: the old
    /// manager goes, the definitions change, the new manager comes.
    pub async fn install_capi(&self, release: Release) {
        // Its process goes with it.
        drop(self.capi().take());
        let capi = start_capi(&self.management, release, &self.capi_args).await.expect("Cluster API");
        *self.capi() = Some(capi);
    }

    /// The version in which Machines and Clusters are kept.
    pub fn capi_version(&self) -> &'static str {
        self.capi().as_ref().map_or(Release::V1_14, |capi| capi.release).version()
    }

    /// Kills Cluster API's manager, unless it is down, and starts it again; returns when its webhooks answer.
    pub async fn restart_capi(&self) {
        let port = {
            let mut capi = self.capi();
            let capi = capi.as_mut().expect("started with Cluster API");
            capi.component.restart(&self.ground.dir).expect("Cluster API");
            capi.webhook_port
        };
        let deadline = Instant::now() + Duration::from_secs(180);
        while !ports::open(port).await {
            assert!(Instant::now() < deadline, "Cluster API did not come back");
            // A port that opens is told to nobody.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends everything now and removes the directory; the same happens when the pair is dropped or the
    /// process ends.
    pub fn stop(self) {
        drop(self);
    }

    /// Lets everything but the provider live on after this process; the path of a script that stops it. A
    /// demonstration that wants Machines to go on becoming Nodes runs [`Provider::serve`] and
    /// [`Provider::forever`] in a copy of itself, started by [`super::controller::Setup::of`] and kept as
    /// well.
    pub fn keep(&self) -> Result<PathBuf> {
        let path = self.ground.path("stop");
        let dir = self.ground.dir.display();
        let mut script = std::fs::File::create(&path)?;
        writeln!(script, "#!/bin/sh\n# Ends the control planes of {dir} and removes them.")?;
        writeln!(
            script,
            "cd / && for pid in '{dir}'/pids/*; do kill -s KILL -- \"-$(cat \"$pid\")\"; done 2>/dev/null"
        )?;
        writeln!(script, "sleep 0.2; rm -rf '{dir}'")?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        self.each(Component::keep);
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).keep();
        Ok(path)
    }
}
