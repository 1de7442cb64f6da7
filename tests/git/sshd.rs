//! An SSH server of one's own: the current user, a throwaway host key, one key that opens it, and git alone behind it.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bed::{Bed, PATIENCE, fed, free_port};
use crate::program::pause;

pub(crate) struct Sshd {
    child: Child,
    pub(crate) port: u16,
    pub(crate) user: String,
    /// The private key that opens it.
    pub(crate) key: PathBuf,
    pub(crate) known_hosts: PathBuf,
}

/// A new key pair at `path`.
pub(crate) fn keygen(path: &std::path::Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(path);
    fed(command, b"");
}

impl Sshd {
    pub(crate) fn new(bed: &Bed) -> Self {
        let dir = bed.path("sshd");
        fs::create_dir_all(&dir).unwrap();
        let (host, key) = (dir.join("host"), dir.join("key"));
        keygen(&host);
        keygen(&key);
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        let forced = "command=\"git shell -c \\\"$SSH_ORIGINAL_COMMAND\\\"\",restrict";
        fs::write(dir.join("authorized_keys"), format!("{forced} {public}")).unwrap();
        // The server leaves root's rights to this folder, and does not make it.
        if rustix::process::geteuid().is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let port = free_port();
        let config = dir.join("config");
        let lines = [
            format!("Port {port}"),
            "ListenAddress 127.0.0.1".to_owned(),
            format!("HostKey {}", host.display()),
            format!("AuthorizedKeysFile {}", dir.join("authorized_keys").display()),
            format!("PidFile {}", dir.join("pid").display()),
            "PermitRootLogin yes".to_owned(),
            "PasswordAuthentication no".to_owned(),
            "KbdInteractiveAuthentication no".to_owned(),
            "StrictModes no".to_owned(),
            "UsePAM no".to_owned(),
        ];
        fs::write(&config, lines.join("\n") + "\n").unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .arg("-D")
            .arg("-e")
            .arg("-f")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("openssh-server is installed");
        let public = fs::read_to_string(host.with_extension("pub")).unwrap();
        let known_hosts = dir.join("known hosts");
        fs::write(&known_hosts, format!("[127.0.0.1]:{port} {public}[deploy.example]:22 {public}")).unwrap();
        let user = fed(
            {
                let mut command = Command::new("id");
                command.arg("-un");
                command
            },
            b"",
        );
        let give_up = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < give_up, "sshd: {}", fs::read_to_string(dir.join("log")).unwrap());
            pause(Duration::from_millis(20));
        }
        Self { child, port, user, key, known_hosts }
    }

    /// Nobody listens any more.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn url(&self, bed: &Bed) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", self.user, self.port, bed.server().display())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}
