//! Builds the control planes from Go modules of ours, once per user.

use std::fmt::Write as _;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::manifests;
use super::process::{Component, Spec};
use super::{Result, say};

/// Raise it when this file builds something else from the same module.
const RECIPE: &str = "1";

/// File names in the cache.
pub const CAPI_CRDS: &str = "capi-crds.json";
/// See [`CAPI_CRDS`].
pub const CAPI_WEBHOOKS: &str = "capi-webhooks.json";
/// See [`CAPI_CRDS`].
pub const KWOK_STAGES: &str = "kwok-stages.yaml";

const STAGES: [&str; 4] = [
    "node/fast/node-initialize.yaml",
    "node/heartbeat/node-heartbeat.yaml",
    "pod/fast/pod-ready.yaml",
    "pod/fast/pod-complete.yaml",
];

/// One binary of the module.
#[derive(Debug)]
pub struct Package {
    /// What we call it.
    pub name: &'static str,
    /// What `go build` calls it: the last part of its package's path.
    output: &'static str,
    import: &'static str,
}

/// A Go module of ours below `tests/`.
#[derive(Debug)]
pub struct Module {
    name: &'static str,
    /// Where Cluster API's module keeps its manifests.
    capi_config: &'static str,
    /// The module whose version the binaries tell, and the variable that holds it.
    version: (&'static str, &'static str),
}

/// Kubernetes, etcd, kwok and today's Cluster API.
pub const CONTROL_PLANES: Module = Module {
    name: "control-planes",
    capi_config: "core/config",
    version: ("k8s.io/kubernetes", "k8s.io/component-base/version.gitVersion"),
};

/// The oldest Cluster API that we speak to, which serves v1beta1 alone. A module of its own: it wants an older
/// Kubernetes, and only its own tests wait for it.
pub const CAPI_V1_10: Module = Module {
    name: "cluster-api-v1.10",
    capi_config: "config",
    version: ("sigs.k8s.io/cluster-api", "sigs.k8s.io/cluster-api/version.gitVersion"),
};

/// What is built of [`CAPI_V1_10`].
pub const CAPI_V1_10_PACKAGE: Package =
    Package { name: "capi-core", output: "cluster-api", import: "sigs.k8s.io/cluster-api" };

/// What is built of [`CONTROL_PLANES`]; the module names the same as its tools.
pub const PACKAGES: [Package; 6] = [
    Package { name: "etcd", output: "server", import: "go.etcd.io/etcd/server/v3" },
    Package {
        name: "kube-apiserver",
        output: "kube-apiserver",
        import: "k8s.io/kubernetes/cmd/kube-apiserver",
    },
    Package {
        name: "kube-controller-manager",
        output: "kube-controller-manager",
        import: "k8s.io/kubernetes/cmd/kube-controller-manager",
    },
    Package { name: "kubectl", output: "kubectl", import: "k8s.io/kubernetes/cmd/kubectl" },
    Package { name: "capi-core", output: "core", import: "sigs.k8s.io/cluster-api/core" },
    Package { name: "kwok", output: "kwok", import: "sigs.k8s.io/kwok/cmd/kwok" },
];

impl Module {
    fn dir(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(self.name)
    }

    /// Where Go keeps the source of a module that this one requires.
    fn source(&self, path: &str) -> Result<PathBuf> {
        let mut go = Command::new("go");
        go.args(["list", "-m", "-f", "{{.Dir}}", path]).env("GOTOOLCHAIN", "local").current_dir(self.dir());
        Ok(PathBuf::from(output(&mut go)?.trim()))
    }
}

/// The directory that holds these packages' binaries, built now if need be. Of several processes that want it
/// one builds, the others wait. `kubectl`: one that is there already.
pub fn ensure(
    root: &Path,
    module: &Module,
    packages: &[&Package],
    kubectl: Option<&Path>,
) -> Result<PathBuf> {
    let go_mod = fs::read_to_string(module.dir().join("go.mod"))?;
    let key = key(&go_mod, &fs::read_to_string(module.dir().join("go.sum"))?, packages);
    let done = root.join(&key);
    if done.is_dir() {
        return Ok(done);
    }
    fs::create_dir_all(root)?;
    // The lock is the kernel's: it goes with its holder, however that ends.
    let _lock = lock(&root.join(format!("{key}.lock")))?;
    if done.is_dir() {
        return Ok(done);
    }
    let work = root.join(format!("{key}.building"));
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(work.join("pids"))?;
    let built = Build { work: &work, module, go_mod: &go_mod, packages, kubectl }.run();
    if let Err(trouble) = built {
        let _ = fs::remove_dir_all(&work);
        return Err(trouble);
    }
    fs::remove_dir_all(work.join("pids"))?;
    fs::rename(&work, &done)?;
    Ok(done)
}

/// Names what is built: the module's exact dependencies, the recipe, the system and the choice of packages.
fn key(go_mod: &str, go_sum: &str, packages: &[&Package]) -> String {
    let names: Vec<_> = packages.iter().map(|p| p.name).collect();
    let names = names.join(",");
    // FNV-1a: stable between Rust versions, which the standard library's hasher is not.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in [go_mod, go_sum, RECIPE, std::env::consts::OS, std::env::consts::ARCH, &names] {
        for byte in part.bytes().chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

fn lock(path: &Path) -> Result<File> {
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder)?;
            let holder = holder.trim();
            say(&format!("waiting for process {holder}, which is building them"));
            file.lock()?;
        }
        Err(TryLockError::Error(e)) => return Err(e.into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(file)
}

struct Build<'a> {
    work: &'a Path,
    module: &'a Module,
    go_mod: &'a str,
    packages: &'a [&'a Package],
    kubectl: Option<&'a Path>,
}

impl Build<'_> {
    fn run(&self) -> Result<()> {
        check_go(self.go_mod)?;
        self.compile()?;
        for package in self.packages.iter().filter(|p| p.name != p.output) {
            fs::rename(self.work.join(package.output), self.work.join(package.name))?;
        }
        self.collect()
    }

    fn compile(&self) -> Result<()> {
        let names: Vec<_> = self.packages.iter().map(|p| p.name).collect();
        let (source, variable) = self.module.version;
        let version = required(self.go_mod, source)?;
        let (names, module) = (names.join(", "), self.module.name);
        say(&format!("building {names} of tests/{module}, once; some minutes with a cold Go cache"));
        let flags = format!("-s -w -X {variable}={version}");
        let mut args = vec!["build".into(), "-C".into(), self.module.dir().display().to_string()];
        args.extend(["-v", "-trimpath", "-ldflags", &flags, "-o"].map(String::from));
        args.push(format!("{}/", self.work.display()));
        args.extend(self.packages.iter().map(|p| p.import.to_owned()));
        // The whole environment: proxies, module caches and certificates are the user's business.
        let mut env: Vec<_> = std::env::vars().collect();
        env.extend(
            [("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local")].map(|(k, v)| (k.to_owned(), v.to_owned())),
        );
        let spec = Spec { name: "build".to_owned(), program: "go".into(), args, env };
        let mut build = Component::start(self.work, spec)?;
        watch_progress(&mut build)?;
        fs::remove_file(self.work.join("build.log"))?;
        Ok(())
    }

    /// What later runs need of the modules, so that they do without Go.
    fn collect(&self) -> Result<()> {
        let capi = self.module.source("sigs.k8s.io/cluster-api")?.join(self.module.capi_config);
        let built = self.work.join("kubectl");
        let kubectl = self.kubectl.unwrap_or(&built);
        let crds = output(Command::new(kubectl).arg("kustomize").arg(capi.join("crd")))?;
        // As JSON: reading a megabyte of YAML at each start would be felt.
        fs::write(self.work.join(CAPI_CRDS), serde_json::to_vec(&manifests::documents(&crds)?)?)?;
        let webhooks = fs::read_to_string(capi.join("webhook/manifests.yaml"))?;
        fs::write(self.work.join(CAPI_WEBHOOKS), serde_json::to_vec(&manifests::documents(&webhooks)?)?)?;
        if self.packages.iter().all(|package| package.name != "kwok") {
            return Ok(());
        }
        let stages = self.module.source("sigs.k8s.io/kwok")?.join("kustomize/stage");
        let mut text = String::new();
        for stage in STAGES {
            let stage = fs::read_to_string(stages.join(stage))?;
            writeln!(text, "---\n{}", stage.trim().trim_start_matches("---"))?;
        }
        fs::write(self.work.join(KWOK_STAGES), text)?;
        Ok(())
    }
}

fn watch_progress(build: &mut Component) -> Result<()> {
    let started = Instant::now();
    let mut told = started;
    loop {
        if let Some(status) = build.ended() {
            let seconds = started.elapsed().as_secs();
            if status.success() {
                say(&format!("built in {seconds} s"));
                return Ok(());
            }
            return Err(format!(
                "building for the control planes failed after {seconds} s ({status})\n{}\n\
                 Modules come through GOPROXY; see that it can be reached, then run again: what has been \
                 compiled stays in Go's cache. Or set KUBEBUILDER_ASSETS to a directory with etcd and \
                 kube-apiserver to build less.",
                build.tail()
            )
            .into());
        }
        if told.elapsed() >= Duration::from_secs(10) {
            told = Instant::now();
            let log = build.log();
            let fetched = log.lines().filter(|line| line.starts_with("go: downloading")).count();
            let compiled = log.lines().count() - fetched;
            let seconds = started.elapsed().as_secs();
            let done = match compiled {
                0 if fetched == 0 => "all compiled before, linking".to_owned(),
                _ => format!("{fetched} modules fetched, {compiled} packages compiled"),
            };
            say(&format!("building for {seconds} s: {done}"));
        }
        // It ends, or it is time to tell how far it is: a child process wakes nobody by a deadline.
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whether a Go is there that is new enough for that go.mod.
pub fn check_go(go_mod: &str) -> Result<()> {
    let wanted = go_mod.lines().find_map(|line| line.strip_prefix("go ")).ok_or("go.mod has no go line")?;
    let wanted = wanted.trim();
    // Without `local`, an older Go would download a newer one behind the user's back.
    let answer = Command::new("go").arg("version").env("GOTOOLCHAIN", "local").current_dir("/").output();
    let answer = match answer {
        Ok(answer) => String::from_utf8_lossy(&answer.stdout).into_owned(),
        Err(_) => String::new(),
    };
    let advice = format!(
        "the tests' control planes are built from source once; that takes Go {wanted} or newer (go.dev/dl)"
    );
    let Some(found) = answer.split_whitespace().nth(2).and_then(|word| word.strip_prefix("go")) else {
        return Err(format!("no Go found: {advice}").into());
    };
    match (version(found), version(wanted)) {
        (Some(has), Some(needs)) if has >= needs => Ok(()),
        _ => Err(format!("Go {found} is too old: {advice}").into()),
    }
}

/// `1.26.8`, `1.27rc1` and `1.26.8-X:something` as numbers that compare.
pub fn version(text: &str) -> Option<[u32; 3]> {
    let text = text.split(['-', ' ']).next()?;
    let mut parts = [0; 3];
    for (part, word) in parts.iter_mut().zip(text.split('.')) {
        let digits: String = word.chars().take_while(char::is_ascii_digit).collect();
        *part = digits.parse().ok()?;
    }
    Some(parts)
}

/// The version at which a go.mod requires a module.
pub fn required<'a>(go_mod: &'a str, module: &str) -> Result<&'a str> {
    let versions = go_mod.lines().find_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' '));
    let version = versions.and_then(|rest| rest.split_whitespace().next());
    Ok(version.ok_or_else(|| format!("go.mod does not require {module}"))?)
}

fn output(command: &mut Command) -> Result<String> {
    let answer = command.output()?;
    if !answer.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&answer.stderr)).into());
    }
    Ok(String::from_utf8(answer.stdout)?)
}
