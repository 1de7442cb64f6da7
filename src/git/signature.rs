//! Whether a commit carries a signature of one of the signers.

use super::program::{Git, Run};
use super::{GitError, Signers};

impl Git {
    /// Asks `git verify-commit`: an SSH signature by a key in `allowed_signers` at that time, or a good GPG signature
    /// by a key of the given home (neither expired nor revoked).
    ///
    /// # Errors
    /// With why it does not count. [`GitError::code`] is set when git judged; none when it could not.
    pub async fn verify_signature(&self, commit: &str, signers: &Signers) -> Result<(), GitError> {
        let nobody = "/dev/null".into();
        let ssh = signers.ssh.as_ref().unwrap_or(&nobody);
        let mut run = Run::local(["verify-commit", commit]);
        run.settings = vec![
            format!("gpg.ssh.allowedSignersFile={}", ssh.display()),
            // A signature of a kind nobody is named for is checked by a program that says no.
            "gpg.x509.program=false".to_owned(),
            format!("gpg.ssh.program={}", if signers.ssh.is_some() { "ssh-keygen" } else { "false" }),
            format!("gpg.openpgp.program={}", if signers.gpg_home.is_some() { "gpg" } else { "false" }),
            "gpg.minTrustLevel=undefined".to_owned(),
        ];
        if let Some(home) = &signers.gpg_home {
            run = run.with("GNUPGHOME", home.as_os_str());
        }
        self.run(run).await.map(|_| ())
    }
}
