//! Programs that print a token, such as that of a password store.

use std::io::ErrorKind;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::error::CredentialsError;
use super::token::Token;

/// Limits of a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    time: Duration,
    bytes: u64,
}

/// Limits of every program.
pub(crate) const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 64 << 10 };

/// Runs a program without a shell and returns the token in the first line of its output. Its stderr is that of this
/// program, so that it can ask for a password.
///
/// # Errors
/// The program cannot be run, fails, takes too long, or prints no token.
pub(crate) async fn run(
    command: &[String],
    named_by: &str,
    limits: Limits,
) -> Result<Token, CredentialsError> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(CredentialsError::permanent(format!("the token_command of {named_by} is empty")));
    };
    let source = format!("the output of `{program}`, the token_command of {named_by}");
    let failed = |reason: String| {
        CredentialsError::permanent(format!("`{program}`, the token_command of {named_by}, {reason}"))
    };
    let running = async {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut output = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            stdout.take(limits.bytes + 1).read_to_end(&mut output).await?;
        }
        if output.len() as u64 > limits.bytes {
            return Err(std::io::Error::from(ErrorKind::FileTooLarge));
        }
        Ok((child.wait().await?, output))
    };
    let (status, output) = match timeout(limits.time, running).await {
        Ok(Ok(ended)) => ended,
        Ok(Err(error)) if error.kind() == ErrorKind::FileTooLarge => {
            return Err(failed(format!("prints more than {} bytes", limits.bytes)));
        }
        Ok(Err(error)) => return Err(failed(format!("cannot be run: {error}"))),
        Err(_) => return Err(failed(format!("did not end within {} s", limits.time.as_secs()))),
    };
    if !status.success() {
        return Err(failed(format!("failed: {status}")));
    }
    let text = String::from_utf8(output).map_err(|_| failed("does not print UTF-8".to_owned()))?;
    Token::parse(text.trim_start().lines().next().unwrap_or_default(), &source)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    async fn output_of(script: &str, limits: Limits) -> Result<Token, CredentialsError> {
        run(&["sh", "-c", script].map(str::to_owned), "context \"x\"", limits).await
    }

    #[tokio::test]
    async fn the_first_line_is_the_token() {
        let token = output_of("printf 'abc\\nlogin: ada\\n'", LIMITS).await.expect("a token");
        assert_eq!(token.expose(), "abc");
        let arguments = run(&["echo", "$HOME;"].map(str::to_owned), "x", LIMITS).await.expect("a token");
        assert_eq!(arguments.expose(), "$HOME;");
    }

    #[tokio::test]
    async fn time_and_output_are_limited_and_failures_do_not_show_the_output() {
        let short = Limits { time: Duration::from_millis(200), bytes: 10 };
        let started = Instant::now();
        for (script, reason) in [
            ("exec sleep 60", "did not end within 0 s"),
            ("echo s3cret; exec sleep 60", "did not end within 0 s"),
            ("yes s3cret", "prints more than 10 bytes"),
            ("echo s3cret; exit 3", "failed: exit status: 3"),
            ("printf 's3 cret'", "one word of ASCII"),
            ("true", "it is empty"),
        ] {
            let error = output_of(script, short).await.expect_err("no token").to_string();
            assert!(error.contains(reason) && error.contains("context \"x\""), "{error}");
            assert!(!error.contains("s3"), "{error}");
        }
        assert!(started.elapsed() < Duration::from_secs(20));
        let missing = run(&["/no/such/program".to_owned()], "x", short).await.expect_err("none").to_string();
        assert!(missing.contains("`/no/such/program`") && missing.contains("cannot be run"), "{missing}");
    }
}
