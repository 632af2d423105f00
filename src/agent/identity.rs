//! That this host is the Node it speaks for: its machine-id is the one that the Node's kubelet has reported.
//!
//! An agent whose `NODE_NAME` is wrong would otherwise take another owner's machine away. The file is read each time:
//! some systems write it only after the first boot.

use std::path::{Path, PathBuf};

use crate::agent::session::Sight;

/// How it is made sure.
#[derive(Clone, Debug)]
pub enum Identity {
    /// The file must say what the Node says.
    Strict(PathBuf),
    /// `NODE_NAME` is believed.
    Believed,
}

/// This host is not shown to be that Node; nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The host's id cannot be read.
    #[error("the host's machine-id cannot be read from {path}: {source}")]
    Unreadable {
        /// Where it should be.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// They are two, or one of them is missing.
    #[error(
        "this host is not Node {node}: its machine-id is {host:?} (in {path}), the Node's is {reported:?}"
    )]
    Mismatch {
        /// Name of the Node.
        node: String,
        /// Where the host's stands.
        path: PathBuf,
        /// The host's.
        host: String,
        /// The Node's.
        reported: String,
    },
}

impl Identity {
    /// Whether this host is that Node.
    ///
    /// # Errors
    /// It is not, or nobody can tell.
    pub fn prove(&self, name: &str, node: &Sight) -> Result<(), IdentityError> {
        let Self::Strict(path) = self else { return Ok(()) };
        let host = read(path)?;
        if host.is_empty() || host != node.machine_id {
            let (node, path, reported) = (name.to_owned(), path.clone(), node.machine_id.clone());
            return Err(IdentityError::Mismatch { node, path, host, reported });
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<String, IdentityError> {
    let unreadable = |source| IdentityError::Unreadable { path: path.to_owned(), source };
    Ok(std::fs::read_to_string(path).map_err(unreadable)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(machine_id: &str) -> Sight {
        let (uid, machine_id) = ("u".to_owned(), machine_id.to_owned());
        Sight { uid, created: None, is_asked: false, machine_id }
    }

    #[test]
    fn the_hosts_id_must_be_the_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine-id");
        let strict = Identity::Strict(path.clone());
        let unreadable = strict.prove("ws-17", &node("a1")).unwrap_err().to_string();
        assert!(unreadable.contains("cannot be read from"), "{unreadable}");
        for (host, reported, is_same) in [
            ("a1\n", "a1", true),
            ("a1", "a1", true),
            ("a1\n", "a2", false),
            ("a1\n", "", false),
            ("", "", false),
            ("\n", "", false),
            ("uninitialized\n", "a1", false),
            ("A1\n", "a1", false),
        ] {
            std::fs::write(&path, host).unwrap();
            let proven = strict.prove("ws-17", &node(reported));
            assert_eq!(proven.is_ok(), is_same, "{host:?} {reported:?}");
            if let Err(error) = proven {
                let words = error.to_string();
                let both = [format!("{:?}", host.trim()), format!("{reported:?}"), "Node ws-17".to_owned()];
                assert!(both.iter().all(|word| words.contains(word)), "{words}");
            }
        }
        Identity::Believed.prove("ws-17", &node("a2")).unwrap();
    }
}
