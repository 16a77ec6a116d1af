//! `sluice-controller operator-certificate`.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use kube::Client;
use sluice_mtls::{Identity, IdentityError};

use super::{
    authority::{Authority, AuthorityError},
    kept::{KeepError, Keeper, Place},
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    #[error("the name cannot be an operator's")]
    Name(#[from] IdentityError),
    #[error("the issuer's authority cannot be had")]
    Keep(#[from] KeepError),
    #[error("the certificate cannot be made")]
    Authority(#[from] AuthorityError),
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What to make.
#[derive(Debug)]
pub struct Wish {
    pub name: String,
    pub lifetime: Duration,
    pub namespace: String,
    pub authority: Place,
    pub trust_domain: String,
}

/// Certificate, key and authorities, PEM.
#[derive(Clone)]
pub struct Made {
    name: String,
    cert: String,
    key: String,
    ca: String,
}

/// A key must not end up in a log.
impl std::fmt::Debug for Made {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Made").finish_non_exhaustive()
    }
}

/// Makes the certificate with the issuer's authority.
pub async fn make(client: Client, wish: Wish) -> Result<Made, OperatorError> {
    let Wish {
        name,
        lifetime,
        namespace,
        authority,
        trust_domain,
    } = wish;
    let identity = operator(&trust_domain, &name)?;
    let keeper = Keeper::new(client, &namespace, authority, &trust_domain);
    let now = SystemTime::now();
    let authority = Authority::new(keeper.load().await?, &keeper.place(), now)?;
    let (issued, key) = authority.pair(&identity, &trust_domain, lifetime, now)?;
    Ok(Made {
        name,
        cert: issued.pem,
        key,
        ca: String::from_utf8_lossy(authority.bundle()).into_owned(),
    })
}

fn operator(trust_domain: &str, name: &str) -> Result<Identity, IdentityError> {
    let uri = format!("spiffe://{trust_domain}/operator/{name}");
    Identity::parse(trust_domain, &uri)
}

impl Made {
    /// One after the other.
    pub fn print(&self) -> String {
        format!("{}{}{}", self.cert, self.key, self.ca)
    }

    /// NAME.crt, NAME.key and ca.crt, readable by nobody else. What is there
    /// is not written over.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, OperatorError> {
        let files = [
            (format!("{}.crt", self.name), &self.cert),
            (format!("{}.key", self.name), &self.key),
            ("ca.crt".to_owned(), &self.ca),
        ];
        let mut written = Vec::new();
        for (name, contents) in files {
            let path = dir.join(name);
            put(&path, contents).map_err(|source| OperatorError::Write {
                path: path.clone(),
                source,
            })?;
            written.push(path);
        }
        Ok(written)
    }
}

fn put(path: &Path, contents: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(contents.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn made() -> Made {
        Made {
            name: "alice".into(),
            cert: "cert\n".into(),
            key: "key\n".into(),
            ca: "ca\n".into(),
        }
    }

    #[test]
    fn names_are_checked() {
        assert!(operator("td", "alice").is_ok());
        for wrong in ["", "Alice", "../alice", "a/b", "a b"] {
            assert!(operator("td", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn files_are_ours_alone_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let written = made().write(dir.path()).unwrap();
        assert_eq!(written.len(), 3);
        for path in written {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{path:?}");
        }
        made().write(dir.path()).unwrap_err();
        assert_eq!(made().print(), "cert\nkey\nca\n");
    }
}
