//! Builds the image, once, in a store of its own, and runs it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use serde_json::Value;

/// Tells whoever watches the tests, past libtest's capture.
pub(crate) fn say(what: &str) {
    // There may be nobody to tell.
    let _ = writeln!(std::io::stderr(), "image: {what}");
}

/// The image, and where it lies.
pub(crate) struct Image {
    store: &'static Store,
    name: String,
    /// Of what it was built on.
    pub(crate) files_of_the_base: BTreeSet<String>,
}

/// Everything is below it; nothing of the user's own images is seen or touched.
struct Store {
    dir: PathBuf,
}

/// How a run ended.
pub(crate) struct Output {
    pub(crate) status: Option<i32>,
    stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// What it printed; it ended well.
    pub(crate) fn text(self) -> String {
        assert_eq!(self.status, Some(0), "{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// The image, built by the first that asks. `None`, said loudly, where it cannot be tried.
pub(crate) fn image() -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    let build = || match trouble() {
        Some(trouble) => {
            crate::skips::skipped(&format!("the container image was neither built nor run: {trouble}"));
            None
        }
        None => Some(Image::build()),
    };
    IMAGE.get_or_init(build).as_ref()
}

fn trouble() -> Option<String> {
    if !Command::new("buildah").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return Some("there is no buildah (apt-get install buildah)".to_owned());
    }
    (!nix::unistd::geteuid().is_root()).then(|| "this needs root".to_owned())
}

fn checked(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{told}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Store {
    fn new() -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("image");
        let store = Self { dir };
        if store.dir.join("store").exists() {
            // What an earlier run has left.
            checked(store.buildah().args(["rm", "--all"]));
            fs::remove_dir_all(store.dir.join("store")).unwrap();
        }
        for part in ["store", "state", "target", "builder/tmp", "base"] {
            fs::create_dir_all(store.dir.join(part)).unwrap();
        }
        store
    }

    /// buildah, on this store.
    fn buildah(&self) -> Command {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.dir.join("store")).arg("--runroot").arg(self.dir.join("state"));
        // Files, copied: works on every file system, and the images are small.
        command.args(["--storage-driver", "vfs"]).env("TMPDIR", &self.dir);
        command
    }

    /// `buildah build` of that directory.
    fn build(&self, name: &str, context: &Path, more: &[String]) {
        let mut command = self.buildah();
        command.args(["build", "--isolation", "chroot", "--pull=never", "--timestamp", "0", "--no-cache"]);
        checked(command.args(more).args(["--tag", name]).arg(context));
    }

    /// In the place of an image with Rust: an empty one into which this machine's tools are mounted while it builds.
    fn builder(&self) -> Vec<String> {
        let home = |variable: &str, name: &str| {
            let set = std::env::var_os(variable).map(PathBuf::from);
            set.unwrap_or_else(|| std::env::home_dir().unwrap().join(name)).display().to_string()
        };
        let (cargo, rustup) = (home("CARGO_HOME", ".cargo"), home("RUSTUP_HOME", ".rustup"));
        let context = self.dir.join("builder");
        // What is compiled now was compiled for these tests: nothing is fetched.
        let text = format!(
            "FROM scratch\nCOPY tmp /tmp\nENV PATH={cargo}/bin:/usr/local/bin:/usr/bin:/bin CARGO_HOME={cargo} \
             RUSTUP_HOME={rustup} CARGO_NET_OFFLINE=true HOME=/tmp\n"
        );
        fs::write(context.join("tmp/.keep"), "").unwrap();
        fs::write(context.join("Containerfile"), text).unwrap();
        self.build("localhost/stand-in-builder", &context, &[]);
        let target = format!("{}:/src/target", self.dir.join("target").display());
        let mounts = [
            "/usr:/usr:ro",
            "/bin:/bin:ro",
            "/lib:/lib:ro",
            "/lib64:/lib64:ro",
            "/etc/alternatives:/etc/alternatives:ro",
        ];
        let mut volumes: Vec<String> = mounts.map(str::to_owned).to_vec();
        volumes.extend([format!("{cargo}:{cargo}"), format!("{rustup}:{rustup}:ro"), target]);
        volumes.retain(|volume| Path::new(volume.split(':').next().unwrap()).exists());
        volumes.into_iter().flat_map(|volume| ["--volume".to_owned(), volume]).collect()
    }

    /// In the place of an image with the C library: an empty one with this machine's.
    fn base(&self) -> BTreeSet<String> {
        let context = self.dir.join("base");
        let linked = checked(Command::new("ldd").arg(env!("CARGO_BIN_EXE_5spot")));
        let mut files: Vec<String> = linked
            .split_whitespace()
            .filter(|word| word.starts_with('/'))
            .map(|word| word.trim_start_matches('/').to_owned())
            .collect();
        for file in &files {
            let to = context.join("files").join(file);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(Path::new("/").join(file), to).unwrap();
        }
        fs::create_dir_all(context.join("files/etc")).unwrap();
        fs::write(context.join("files/etc/nsswitch.conf"), "hosts: files dns\n").unwrap();
        files.push("etc/nsswitch.conf".to_owned());
        fs::write(context.join("Containerfile"), "FROM scratch\nCOPY files /\n").unwrap();
        self.build("localhost/stand-in-base", &context, &[]);
        files.into_iter().collect()
    }
}

impl Image {
    fn build() -> Self {
        let started = Instant::now();
        let store: &'static Store = Box::leak(Box::new(Store::new()));
        let files_of_the_base = store.base();
        say("building it with stand-ins for its bases: this machine's toolchain and C library");
        let image = Self { store, name: "localhost/5spot:test".to_owned(), files_of_the_base };
        image.put_together();
        say(&format!("built in {} s", started.elapsed().as_secs()));
        image
    }

    fn put_together(&self) {
        let mut more = self.store.builder();
        for (name, value) in [
            ("BUILDER", "localhost/stand-in-builder"),
            ("BASE", "localhost/stand-in-base"),
            ("PROFILE", "dev"),
        ] {
            more.extend(["--build-arg".to_owned(), format!("{name}={value}")]);
        }
        self.store.build(&self.name, Path::new(env!("CARGO_MANIFEST_DIR")), &more);
    }

    /// The same from the start, but for what the compiler had compiled.
    pub(crate) fn again(&self) -> Self {
        let files_of_the_base = self.files_of_the_base.clone();
        let again = Self { store: self.store, name: "localhost/5spot:again".to_owned(), files_of_the_base };
        again.put_together();
        again
    }

    /// A container of it, whose names are looked up at that server.
    pub(crate) fn container(&self, name_server: Option<Ipv4Addr>) -> Container {
        let mut from = self.store.buildah();
        from.args(["from", "--pull-never"]);
        if let Some(address) = name_server {
            from.arg("--dns").arg(address.to_string());
        }
        Container { store: self.store, id: checked(from.arg(&self.name)).trim().to_owned() }
    }

    /// What the image says of itself.
    pub(crate) fn inspect(&self) -> Value {
        let told = checked(self.store.buildah().args(["inspect", "--type", "image", &self.name]));
        serde_json::from_str(&told).unwrap()
    }
}

/// A container, in which one thing after another may run. It is in its own file system, and in this machine's namespaces of
/// processes and network, as the agent's pod is. It goes with this value.
pub(crate) struct Container {
    store: &'static Store,
    id: String,
}

impl Container {
    /// Options for where and as whom, the program and its arguments.
    pub(crate) fn command(&self, options: &[&str], line: &[&str]) -> Command {
        let mut command = self.store.buildah();
        command.args(["run", "--isolation", "chroot"]).args(options).arg(&self.id).arg("--").args(line);
        command.stdin(Stdio::null());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, options: &[&str], line: &[&str]) -> Output {
        let output = self.command(options, line).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Output { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Its files, without directories, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let root = PathBuf::from(checked(self.store.buildah().args(["mount", &self.id])).trim());
        let (mut found, mut rest) = (BTreeSet::new(), vec![root.clone()]);
        while let Some(dir) = rest.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    rest.push(path);
                } else {
                    found.insert(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.into_iter().collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // What is left is removed at the next start.
        let _ = self.store.buildah().args(["rm", &self.id]).output();
    }
}
