//! Which processes are pods', by their cgroups. Pure.
//!
//! Every kubelet puts a pod's processes below a group with the pod's uid in its name, under either cgroup driver and every
//! container runtime. Seen from a cgroup namespace, as pods have, paths begin with `..`: those of processes that do not
//! share our own group. What names a pod is still in them, except for the other containers of our own pod.

/// What is needed to read the cgroups of others.
#[derive(Clone, Debug, Default)]
pub(super) struct Pods {
    /// Where process 1 is, by hierarchy: where the machine begins. A machine that is itself somebody's pod has that
    /// pod in all of its paths.
    homes: Vec<(String, Path)>,
    /// We are a pod ourselves.
    own: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Path {
    ups: usize,
    down: Vec<String>,
}

impl Path {
    fn parse(text: &str) -> Self {
        let parts = text.split('/').filter(|part| !part.is_empty());
        let ups = parts.clone().take_while(|part| *part == "..").count();
        Self { ups, down: parts.skip(ups).map(str::to_owned).collect() }
    }
}

impl Pods {
    /// From `cgroup` of process 1 and `mountinfo` of ourselves.
    pub(super) fn new(init: &[u8], mounts: &[u8]) -> Self {
        let mounts = String::from_utf8_lossy(mounts);
        let marks = ["/kubelet/pods/", "kubernetes.io~", "/secrets/kubernetes.io/serviceaccount"];
        Self { homes: lines(init), own: marks.iter().any(|mark| mounts.contains(mark)) }
    }

    /// Nothing is known of any cgroup.
    pub(super) fn is_unknown(&self) -> bool {
        self.homes.is_empty()
    }

    /// Whether a process with this `cgroup` file is a pod's.
    pub(super) fn owns(&self, text: &[u8]) -> bool {
        lines(text).into_iter().any(|(hierarchy, path)| {
            let home = self.homes.iter().find(|(known, _)| *known == hierarchy).map(|(_, path)| path);
            let ups = home.map_or(0, |home| home.ups);
            // In our own container, or next to it in our own pod.
            if self.own && ups > 1 && path.ups <= 1 {
                return true;
            }
            let shared = home.filter(|home| home.ups == path.ups).map_or(0, |home| {
                home.down.iter().zip(&path.down).take_while(|(home, part)| home == part).count()
            });
            path.down.iter().skip(shared).any(|part| is_pod(part))
        })
    }
}

/// `hierarchy:controllers:path`, by controllers.
fn lines(text: &[u8]) -> Vec<(String, Path)> {
    let text = String::from_utf8_lossy(text);
    let parse = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        Some((parts.next()?.to_owned(), Path::parse(parts.next()?)))
    };
    text.lines().filter_map(parse).collect()
}

/// Whether a group is a pod's, or the root of all pods'.
fn is_pod(group: &str) -> bool {
    if group == "kubepods" || (group.contains("kubepods") && group.contains(".slice")) {
        return true;
    }
    group.match_indices("pod").any(|(at, word)| {
        let (before, after) = (&group[..at], &group[at + word.len()..]);
        (before.is_empty() || before.ends_with('-')) && begins_with_uid(after)
    })
}

/// A uid as the API server gives them (systemd's slices have `_` for `-`), or the digest that a static pod has for one.
fn begins_with_uid(text: &str) -> bool {
    let uid: String = text.chars().take_while(|c| c.is_ascii_hexdigit() || "-_".contains(*c)).collect();
    let rest = &text[uid.len()..];
    let digits = uid.chars().filter(char::is_ascii_hexdigit).count();
    digits == 32 && matches!(uid.len(), 32 | 36) && (rest.is_empty() || rest.starts_with(['.', ':']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0d3c2a1e-1111-4222-8333-123456789abc";
    const SYSTEMD_UID: &str = "0d3c2a1e_1111_4222_8333_123456789abc";
    const ID: &str = "4f1c9a3d5e7b8c6a4f1c9a3d5e7b8c6a4f1c9a3d5e7b8c6a4f1c9a3d5e7b8c6a";

    fn on_host(path: &str) -> bool {
        let v2 = Pods::new(b"0::/init.scope\n", b"").owns(format!("0::{path}\n").as_bytes());
        let init = b"12:pids:/\n1:name=systemd:/init.scope\n0::/\n";
        let v1 = format!("12:pids:{path}\n1:name=systemd:{path}\n0::/\n");
        assert_eq!(v2, Pods::new(init, b"").owns(v1.as_bytes()), "{path}: v1 and v2 differ");
        v2
    }

    #[test]
    fn pods_of_every_driver_and_runtime_are_pods() {
        for path in [
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{SYSTEMD_UID}.slice/crio-{ID}.scope/container"),
            format!(
                "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{SYSTEMD_UID}.slice/docker-{ID}.scope"
            ),
            format!("/kubepods/burstable/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}/{ID}"),
            // A static pod's uid is a digest.
            format!("/kubepods/burstable/pod5e7b8c6a4f1c9a3d5e7b8c6a4f1c9a3d/{ID}"),
            format!(
                "/system.slice/containerd.service/kubepods-burstable-pod{SYSTEMD_UID}.slice:cri-containerd:{ID}"
            ),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{SYSTEMD_UID}.slice/cri-containerd-{ID}.scope"
            ),
            // Docker within a pod.
            format!("/kubepods/besteffort/pod{UID}/{ID}/docker/{ID}"),
        ] {
            assert!(on_host(&path), "{path}");
        }
    }

    #[test]
    fn the_owners_own_containers_and_sessions_are_not_pods() {
        for path in [
            "/".to_owned(),
            "/user.slice/user-1000.slice/session-1.scope".to_owned(),
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container"),
            format!("/machine.slice/libpod-{ID}.scope"),
            // A podman pod is not a kubelet's.
            format!("/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope"),
            "/user.slice/user-1000.slice/user@1000.service/app.slice/podcasts.service".to_owned(),
            "/user.slice/user-1000.slice/user@1000.service/app.slice/kubepods-viewer.service".to_owned(),
            "/system.slice/containerd.service".to_owned(),
            "/system.slice/k3s.service".to_owned(),
        ] {
            assert!(!on_host(&path), "{path}");
        }
    }

    #[test]
    fn a_machine_within_somebodys_pod_is_a_machine() {
        let outer = format!("/kubepods/burstable/pod{UID}/{ID}");
        let pods = Pods::new(format!("0::{outer}/init.scope\n").as_bytes(), b"");
        assert!(!pods.owns(format!("0::{outer}/user.slice/user-1000.slice\n").as_bytes()));
        let inner = format!("0::{outer}/kubelet/kubepods/pod{UID}/{ID}\n");
        assert!(pods.owns(inner.as_bytes()));
    }

    #[test]
    fn from_within_a_pods_own_cgroup_namespace_pods_are_still_pods() {
        let mounts = b"1 2 0:3 /var/lib/kubelet/pods/x/etc-hosts /etc/hosts rw - ext4 /dev/sda rw\n";
        // Our own group is four deep: kubepods, quality of service, pod, container.
        let pods = Pods::new(b"0::/../../../../init.scope\n", mounts);
        let pod_of = |path: &str| pods.owns(format!("0::{path}\n").as_bytes());
        assert!(pod_of("/"), "our own container");
        assert!(pod_of(&format!("/../{ID}")), "another container of our own pod");
        assert!(pod_of(&format!("/../../pod{UID}/{ID}")), "the same quality of service: no word of kubepods");
        assert!(pod_of(&format!("/../../../pod{UID}/{ID}")), "a guaranteed pod");
        assert!(pod_of(&format!(
            "/../../../kubepods-besteffort.slice/kubepods-besteffort-pod{SYSTEMD_UID}.slice/crio-{ID}.scope"
        )));
        assert!(!pod_of("/../../../../user.slice/user-1000.slice/session-1.scope"));
        assert!(!pod_of(&format!("/../../../../system.slice/docker-{ID}.scope")));
        assert!(!pod_of("/../../../.."));
        assert!(!pod_of("/../../../containerd.service"), "a service that shares our top level");
    }

    #[test]
    fn an_agent_in_a_docker_container_sees_its_neighbours_as_the_owners() {
        let pods = Pods::new(b"0::/../../init.scope\n", b"1 2 0:3 / / rw - overlay overlay rw\n");
        assert!(!pods.owns(format!("0::/../docker-{ID}.scope\n").as_bytes()));
    }

    #[test]
    fn what_cannot_be_read_excludes_nobody() {
        let pods = Pods::new(b"", b"");
        assert!(pods.is_unknown());
        assert!(!pods.owns(b"") && !pods.owns(b"nonsense\n\xff::\n"));
    }
}
