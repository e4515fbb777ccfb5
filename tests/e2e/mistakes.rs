//! Mistakes at the command line: the message and the exit status that each gets.

use ledger_tests::{Command, InProcess, Outcome};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::PROGRAM;

/// A mistake as typed into a shell, the exit status, and a part of what stderr says. In the folder are the files
/// `page.html`, `policy.json` and `bad.json`. Nothing listens at `$DOWN`; `$PROXY`, `$PORTAL` and `$SIGN_IN` answer
/// with a page, and with 502, 200 and 302; `$LEDGER` is a ledger with one deploy of `search-api` to `production`. There
/// is no terminal, and stdin is empty.
type Mistake = (&'static str, i32, &'static str);

const NAMES: &[Mistake] = &[
    ("release-ledger stat production", 2, "unrecognized subcommand 'stat'"),
    ("release-ledger rollback exceute r-1", 2, "unrecognized subcommand 'exceute'"),
    ("release-ledger check pased smoke", 2, "unrecognized subcommand 'pased'"),
    ("release-ledger policy production", 2, "unrecognized subcommand 'production'"),
    ("release-ledger emit deploy.done --environment dev", 2, "error: unknown event type \"deploy.done\""),
    (
        "release-ledger emit deploy.succeded --environment dev",
        2,
        "did you mean deploy.succeeded? `release-ledger events types` lists them",
    ),
    ("release-ledger explain deploy.succeded", 2, "did you mean deploy.succeeded?"),
    ("release-ledger entry abc", 2, "a position is the number of an entry"),
    ("release-ledger emit deploy.succeeded --enviroment dev", 2, "unexpected argument '--enviroment' found"),
    (
        "release-ledger emit deploy.succeeded --environment 'a b'",
        2,
        "invalid value 'a b' for '--environment <NAME>'",
    ),
    ("release-ledger emit deploy.succeeded --service a/b", 2, "invalid value 'a/b' for '--service <NAME>'"),
    ("release-ledger emit deploy.succeeded --slot 'a b'", 2, "invalid value 'a b' for '--slot <NAME>'"),
    ("release-ledger state 'pro duction'", 2, "invalid value 'pro duction' for '<ENVIRONMENT>'"),
    ("release-ledger gate production web", 2, "<VERSION>"),
    ("release-ledger freeze production", 2, "--reason <TEXT>"),
    ("release-ledger switch production web", 2, "<SLOT>"),
    ("release-ledger remove production", 2, "<SERVICE>"),
    ("release-ledger retire", 2, "<ENVIRONMENT>"),
    ("release-ledger mark production 3 --as good --reason x", 2, "invalid value 'good' for '--as <STATUS>'"),
    (
        "release-ledger mark production change:x --as bad --reason x",
        2,
        "invalid value 'change:x' for '<POINT>'",
    ),
    ("release-ledger rollback request production --to last-known-good", 2, "--reason <TEXT>"),
    ("release-ledger correct --version v2", 2, "<POSITION>"),
    ("release-ledger correct first --version v2", 2, "invalid value 'first' for '<POSITION>'"),
    ("release-ledger correct 3 --as deploy.done", 2, "unknown event type \"deploy.done\""),
    (
        "release-ledger correct 3",
        2,
        "error: nothing to correct; say what was wrong by a flag such as --version",
    ),
];

const EVENTS: &[Mistake] = &[
    ("emit --service web --version v1", 2, "error: invalid event: --environment is missing"),
    ("emit --environment dev --version v1", 2, "error: invalid event: --service is missing"),
    ("emit --environment dev --service web", 2, "error: invalid event: --version is missing"),
    ("emit $DEV --version ''", 2, "error: invalid event: --version: must not be empty"),
    ("emit $DEV --version v1 --artifact web:latest", 2, "error: invalid event: --artifact: "),
    ("emit $DEV --version v1 --config sha256:12", 2, "error: invalid event: --config: "),
    ("emit $DEV --version v1 --time yesterday", 2, "error: invalid event: --time: "),
    ("emit $DEV --version v1 --time 2026-02-30T10:00:00Z", 2, "error: invalid event: --time: "),
    ("emit $DEV --version v1 --source 'a b'", 2, "error: invalid event: --source: "),
    ("emit $DEV --version v1 --id ''", 2, "error: invalid event: --id: "),
    ("emit $DEV --version v1 --deployment ''", 2, "error: invalid event: --deployment: "),
    ("emit $DEV --version v1 --actor :", 2, "for '--actor <NAME|TYPE:NAME>'"),
    ("emit $DEV --version v1 --link x", 2, "must be REL=HREF"),
    ("emit $DEV --version v1 --data '{'", 2, "--data is not a JSON object"),
    ("emit $DEV --version v1 --data '[]'", 2, "--data is not a JSON object"),
    ("emit $DEV --version v1 --data @missing.json", 1, "--data: cannot read missing.json"),
    (
        "emit $DEV --version v1 --data '{\"service\":\"web\"}'",
        2,
        "service is given twice: by a flag and in --data",
    ),
    ("emit $DEV --version v1 --data '{\"colour\":1}'", 2, "--data: colour: is not a known member"),
    ("emit $DEV --version v1 --retry-for 0", 2, "invalid value '0' for '--retry-for <SECONDS>'"),
    ("release-ledger emit traffic.switched $DEV", 2, "error: invalid event: --slot is missing"),
    ("release-ledger emit deploy.removed $DEV --version v1", 2, "--version does not apply to deploy.removed"),
    (
        "release-ledger emit freeze.started --environment dev",
        2,
        "error: invalid event: --data: freeze_id is missing",
    ),
    (
        "release-ledger emit validation.passed --environment dev",
        2,
        "error: invalid event: --data: check is missing",
    ),
    (
        "release-ledger emit validation.passed --data '{\"check\":\"smoke\"}'",
        2,
        "a check requires an artifact or an environment; set --environment or --artifact",
    ),
    ("release-ledger emit - --environment dev < /dev/null", 2, "error: events from stdin are complete"),
    ("release-ledger emit - < /dev/null", 1, "error: no event on stdin"),
    ("echo nonsense | release-ledger emit -", 1, "event 1 is not JSON"),
    (
        "RELEASE_LEDGER_ACTOR=person: release-ledger emit deploy.succeeded $DEV",
        2,
        "invalid RELEASE_LEDGER_ACTOR: must not be empty",
    ),
];

const VERBS: &[Mistake] = &[
    ("release-ledger freeze dev --reason x --until tomorrow", 2, "must be a time such as"),
    ("release-ledger freeze dev --reason x --until 2020-01-01T00:00:00Z", 2, "must be in the future"),
    ("release-ledger freeze dev --reason ''", 2, "for '--reason <TEXT>'"),
    ("release-ledger approve dev web v1 --until 3", 2, "must be a time such as"),
    ("release-ledger approve dev web v1 --artifact web:latest", 2, "error: --artifact: "),
    ("release-ledger approve dev web ''", 2, "error: VERSION: must not be empty"),
    ("release-ledger unfreeze dev --by :", 2, "for '--by <NAME|TYPE:NAME>'"),
    ("release-ledger revoke v1 --reason x", 2, "with a version, set --environment and --service"),
    ("release-ledger revoke v1 --reason x --environment dev", 2, "--service <NAME>"),
    ("release-ledger switch dev web green --time yesterday", 2, "error: --time: "),
    ("release-ledger check passed smoke --service web", 2, "--environment <NAME>"),
    ("release-ledger check passed smoke", 2, "set --environment or --artifact"),
    ("release-ledger check passed '' --environment dev", 2, "for '<NAME>'"),
    ("release-ledger check passed smoke --environment dev --run ''", 2, "error: --run: "),
    (
        "release-ledger check passed smoke --environment dev --junit none.xml",
        1,
        "error: --junit none.xml: cannot be read",
    ),
    (
        "release-ledger check passed smoke --environment dev --junit page.html",
        1,
        "error: --junit page.html: is not JUnit XML",
    ),
    (
        "release-ledger check passed smoke --environment dev --tap /dev/null",
        1,
        "error: --tap /dev/null: is not a file",
    ),
    (
        "release-ledger check passed smoke --environment dev --sarif page.html",
        1,
        "error: --sarif page.html: is not SARIF",
    ),
    ("release-ledger check run smoke --environment dev", 125, "<COMMAND>"),
    (
        "release-ledger check run smoke --url $DOWN --retry-for 1 -- true",
        125,
        "error: invalid check: a check requires",
    ),
    (
        "release-ledger check run smoke --environment dev --url $DOWN --retry-for 1 --junit none.xml -- true",
        125,
        "error: --junit none.xml: cannot be read",
    ),
    (
        "release-ledger check run smoke --environment dev --url $DOWN --retry-for 1 --junit none.xml -- sh -c 'exit 3'",
        3,
        "release-ledger: --junit none.xml: cannot be read",
    ),
    ("release-ledger run --environment dev --service web -- true", 125, "--version <VERSION>"),
    (
        "release-ledger run $DEV --version '' -- true",
        125,
        "error: invalid deploy: --version: must not be empty",
    ),
    ("release-ledger policy check none.json", 1, "error: FILE: cannot read none.json"),
    ("release-ledger policy check page.html", 1, "error: FILE: page.html: "),
    ("release-ledger policy check bad.json", 1, "error: FILE: bad.json: approvels is not a known member"),
    ("release-ledger policy set dev bad.json", 1, "error: FILE: bad.json: approvels is not a known member"),
    ("echo '{\"approvals\":-1}' | release-ledger policy check -", 1, "error: FILE: stdin: approvals must be"),
];

const CONNECTIONS: &[Mistake] = &[
    (
        "release-ledger state dev --url ftp://ledger.example",
        2,
        "RELEASE_LEDGER_URL: must start with http:// or https://",
    ),
    ("release-ledger state dev --url ''", 2, "RELEASE_LEDGER_URL: it is empty; give the URL"),
    (
        "release-ledger state dev --url $(echo $PROXY | sed s/http/https/)",
        1,
        "it answers plain http; use http://127.0.0.1:",
    ),
    ("release-ledger state dev --url http://127.0.0.1:port", 2, "RELEASE_LEDGER_URL: invalid port number"),
    ("release-ledger state dev --url ledger.example:port", 2, "RELEASE_LEDGER_URL: invalid port number"),
    (
        "release-ledger state dev --url 'http://127.0.0.1:1/?x'",
        2,
        "RELEASE_LEDGER_URL: must not contain ? or #",
    ),
    (
        "release-ledger state dev --url 127.0.0.1:1/v1/tenants/shop",
        2,
        "must not contain the path of a tenant",
    ),
    ("release-ledger state dev --tenant 'a b'", 2, "error: invalid --tenant or RELEASE_LEDGER_TENANT: "),
    ("release-ledger state dev --context nowhere", 2, "error: invalid --context or RELEASE_LEDGER_CONTEXT: "),
    ("release-ledger state dev --header x", 2, "error: invalid --header: must be NAME:VALUE"),
    (
        "release-ledger state dev --header 'Authorization: Bearer x'",
        2,
        "error: invalid --header: credentials are not",
    ),
    (
        "release-ledger state dev --header x:y --url http://ledger.example",
        2,
        "refusing to send it over plain http",
    ),
    (
        "release-ledger state dev --ca-file none.pem --url https://127.0.0.1:1",
        1,
        "cannot read the ca_file none.pem",
    ),
    (
        "release-ledger state dev --client-cert none.pem --url $DOWN",
        1,
        "cannot use the client certificate none.pem",
    ),
    ("release-ledger state dev --url $DOWN", 1, "error: no release ledger answers at http://127.0.0.1:1/"),
    (
        "release-ledger state dev --url 127.0.0.1:1/v1",
        1,
        "error: no release ledger answers at http://127.0.0.1:1/",
    ),
    ("release-ledger gate dev web v1 --url $DOWN", 2, "error: no release ledger answers at"),
    ("release-ledger policy diff dev policy.json --url $DOWN", 1, "error: no release ledger answers at"),
    (
        "release-ledger freeze dev --reason x --url $DOWN --retry-for 1",
        1,
        "error: freeze.started is not recorded, and commands are never spooled: no release ledger answers",
    ),
    (
        "emit $DEV --version v1 --url $DOWN --retry-for 1 --strict",
        1,
        "error: 1 event spooled and not yet recorded",
    ),
    (
        "release-ledger state dev --url $PROXY",
        1,
        "answered 502 Bad Gateway, but not as a release ledger; check --url",
    ),
    (
        "release-ledger freeze dev --reason x --url $PROXY --retry-for 1",
        1,
        "error: freeze.started may or may not be recorded, and commands are never spooled; send it again",
    ),
];

const POINTS_AND_TIMES: &[Mistake] = &[
    (
        "release-ledger state production --at 2026-13-01",
        2,
        "for '--at <POINT>': invalid point \"2026-13-01\"",
    ),
    ("release-ledger state production --at 3x", 2, "for '--at <POINT>': invalid point \"3x\""),
    ("release-ledger diff production --from @latest", 2, "invalid environment before '@'"),
    ("release-ledger diff production --from change:", 2, "for '--from <POINT>': invalid point \"change:\""),
    ("release-ledger history --since yesteday", 2, "for '--since <TIME>': must be a time such as"),
    (
        "release-ledger history --since 2026-03-01T12:00",
        2,
        "for '--since <TIME>': has no time zone: add Z for UTC",
    ),
    ("release-ledger history --until 2026-02-30", 2, "for '--until <TIME>': is not a date of the calendar"),
    ("release-ledger audit production --since 36501d", 2, "is too long ago: must be at most 36500d"),
    ("release-ledger history --after yesterday", 2, "for '--after <POSITION>': must not be a time"),
    ("ask history --before -1", 2, "error: -1 is a point: name its environment, ENVIRONMENT@-1"),
    ("ask history --after production@nowhen", 1, "production has no point named nowhen"),
    (
        "release-ledger backtest policy.json --environment production --until 2h",
        2,
        "for '--until <POSITION>': must not be a time",
    ),
    (
        "release-ledger state production --at 2026-03-01T12:00",
        2,
        "invalid point \"2026-03-01T12:00\": it has no time zone",
    ),
    ("release-ledger state production --at 2026-02-30", 2, "it is not a date of the calendar"),
    ("release-ledger state production --known-at soon", 2, "must be a position, latest, or a time"),
    ("release-ledger points production --known-at -1", 2, "must be a position, latest, or a time"),
    ("ask state production --at yesteday", 1, "no point named yesteday; did you mean yesterday?"),
    ("ask manifest production --at staging@latest", 2, "error: the point staging@latest belongs to staging"),
    ("release-ledger entry production@2h", 2, "must not be a time"),
    (
        "release-ledger mark production 1 --as bad --reason x --name yesterday",
        2,
        "for '--name <NAME>': would be taken for another point or a time: yesterday",
    ),
    ("release-ledger token create --name x --expires-at 2h30m", 2, "must be a time such as"),
    ("emit $DEV --version v1 --time 2026-03-01", 2, "--time: must be a time of day with its zone"),
    ("release-ledger remove dev web --time 2h", 2, "error: --time: must be a time of day with its zone"),
    ("release-ledger check passed smoke --environment dev --time today", 2, "--time: must be a time of day"),
    (
        "ask state production --at nowhen",
        1,
        "error: Unknown release point: production has no point named nowhen",
    ),
    ("ask state production --at 4711", 1, "error: Unknown position: position 4711 is not projected yet"),
    ("ask state production --at change:9", 1, "production has fewer than 9 changes"),
    ("ask diff production --from stagin@latest", 1, "error: Unknown environment: unknown environment stagin"),
    ("ask entry 4711", 1, "error: Unknown position: no entry at position 4711"),
    ("ask correct 4711 --version v1", 1, "error: Unknown position: no entry at position 4711"),
    ("ask mark production 4711 --as bad --reason x", 1, "error: Unknown position: "),
    ("ask horizon production --window 3w4", 2, "window: must be a number with a unit"),
];

const QUESTIONS: &[Mistake] = &[
    ("ask state prodution", 1, "error: Unknown environment: unknown environment prodution"),
    ("ask state production --tenant shopp", 1, "error: Unknown tenant: "),
    ("ask audit prodution", 1, "error: Unknown environment: unknown environment prodution"),
    ("ask why production serch-api", 1, "error: production does not run serch-api there"),
    (
        "ask history --environment production --service serch-api",
        1,
        "service serch-api has never been in production; did you mean search-api? (known: search-api)",
    ),
    ("ask gate prodution search-api v1", 2, "error: Unknown environment: unknown environment prodution"),
    ("ask gate production serch-api v1", 2, "(known: search-api); for a first deploy set"),
    ("ask history --type deploy.succeded", 2, "did you mean deploy.succeeded?"),
    ("ask history --limit 0", 2, "limit: must be a whole number from 1 to 1000"),
    ("ask rollback show back-x", 1, "error: Unknown rollback: unknown rollback back-x"),
    ("ask rollback execute back-x --exec true", 1, "error: Unknown rollback: unknown rollback back-x"),
    ("ask unfreeze production --name nothing", 1, "freeze nothing of production is not active"),
    ("ask quarantine show nothing", 2, "message_id: must be 32 lower-case hexadecimal digits"),
    ("release-ledger state production --output xml", 2, "[possible values: table, wide, json"),
    ("release-ledger history --output csv --json", 2, "cannot be used with '--json'"),
    ("echo '{' | ask import releases -", 1, "error: nothing is recorded: 1 of 1 rows are invalid"),
    ("ask import releases none.ndjson", 1, "error: cannot read none.ndjson"),
    ("ask backtest none.json --environment production", 1, "error: cannot read none.json"),
    ("release-ledger hook test x page.html", 1, "error: the settings have no webhook x; they have: none"),
];

const TOKEN_AS_ARGUMENT: &str = "give the token in a file by --token-file or RELEASE_LEDGER_TOKEN_FILE, or in \
                                 RELEASE_LEDGER_TOKEN";

const NO_TERMINAL_AND_NO_CREDENTIALS: &[Mistake] = &[
    (
        "env -u VISUAL -u EDITOR release-ledger policy edit production --url $LEDGER",
        1,
        "error: no editor; set VISUAL or EDITOR",
    ),
    ("release-ledger login", 2, "--issuer <URL>"),
    ("release-ledger context use nowhere", 1, "error: no context nowhere"),
    (
        "release-ledger context add x --url $DOWN --token-stdin",
        1,
        "error: invalid token in stdin: it is empty",
    ),
    (
        "release-ledger state dev --token-file /dev/null --url $DOWN",
        1,
        "error: invalid token in /dev/null (--token-file or RELEASE_LEDGER_TOKEN_FILE): it is empty",
    ),
    (
        "RELEASE_LEDGER_TOKEN=rl_0123456789abcdef_short release-ledger state dev --url $DOWN",
        1,
        "error: invalid token in RELEASE_LEDGER_TOKEN: it is not a token of a release ledger",
    ),
    ("release-ledger state dev --token rl_0123456789abcdef_x", 2, TOKEN_AS_ARGUMENT),
    ("release-ledger --token=rl_0123456789abcdef_x state dev", 2, TOKEN_AS_ARGUMENT),
    (
        "release-ledger token revoke nothing --reason x",
        2,
        "the id of a token has 16 lower-case hexadecimal digits",
    ),
];

const PAGES: &[Mistake] = &[
    (
        "release-ledger state dev --url $PORTAL",
        1,
        "answered 200 OK, but not as a release ledger; check --url",
    ),
    (
        "release-ledger state dev --url $SIGN_IN",
        1,
        "answered 302 Found, but not as a release ledger; check --url",
    ),
    (
        "emit $DEV --version v1 --url $PORTAL --retry-for 1 --strict",
        1,
        "error: 1 event spooled and not yet recorded",
    ),
    (
        "emit $DEV --version v1 --url $SIGN_IN --retry-for 1 --strict",
        1,
        "error: 1 event spooled and not yet recorded",
    ),
];

#[tokio::test]
async fn every_mistake_gets_a_message_that_names_it_and_a_documented_exit_status() {
    let shell = Shell::start().await;
    let table = [
        NAMES,
        EVENTS,
        VERBS,
        CONNECTIONS,
        POINTS_AND_TIMES,
        QUESTIONS,
        NO_TERMINAL_AND_NO_CREDENTIALS,
        PAGES,
    ]
    .concat();
    assert!(table.len() >= 60, "{} mistakes", table.len());

    let mut wrong = Vec::new();
    for (line, code, message) in &table {
        let outcome = shell.run(line).await;
        let says_it = outcome.stderr.contains(*message) && !outcome.stderr.contains(" /data/");
        // Errors in the arguments are followed by the usage; all others are one line.
        let errors = outcome.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        if outcome.code != Some(*code) || !says_it || errors > 1 || !outcome.stdout.is_empty() {
            let Outcome { code: received, stdout, stderr } = outcome;
            wrong
                .push(format!("{line}\nexpected {code}: {message}\nreceived {received:?}: {stdout}{stderr}"));
        }
    }

    assert_eq!(wrong, [""; 0], "of {} mistakes", table.len());
}

/// A shell with the program, in a folder of its own.
struct Shell {
    folder: tempfile::TempDir,
    ledger: InProcess,
    proxy: String,
    portal: String,
    sign_in: String,
}

impl Shell {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(PROGRAM, folder.path().join("release-ledger")).expect("a link");
        for name in ["config", "state"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        for (name, text) in [
            ("page.html", "<html><body>Bad gateway</body></html>"),
            ("policy.json", r#"{"approvals":1}"#),
            ("bad.json", r#"{"approvels":1}"#),
        ] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        let ledger = InProcess::start(&[]).await;
        let shell = Self {
            folder,
            ledger,
            proxy: start_proxy("502 Bad Gateway").await,
            portal: start_proxy("200 OK").await,
            sign_in: start_proxy("302 Found\r\nlocation: https://login.example/").await,
        };
        let first = "ask emit deploy.succeeded --environment production --service search-api --version v948";
        for line in [first, "ask position --wait-for 1"] {
            let outcome = shell.run(line).await;
            assert_eq!(outcome.code, Some(0), "{line}: {}", outcome.stderr);
        }
        shell
    }

    /// Runs a line; `emit` stands for the command that reports a deploy, and `ask` for a command to the ledger.
    async fn run(&self, line: &str) -> Outcome {
        let folder = self.folder.path().to_str().expect("UTF-8");
        let script = format!(
            "cd \"$FOLDER\"\nDEV='--environment dev --service web'\n\
             emit() {{ release-ledger emit deploy.succeeded \"$@\"; }}\n\
             ask() {{ release-ledger \"$@\" --url \"$LEDGER\"; }}\n{line}"
        );
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = format!("{folder}:{}", path.to_string_lossy());
        // Not the folder, where `release-ledger` is the program.
        let (config, state) = (format!("{folder}/config"), format!("{folder}/state"));
        let mut variables = vec![
            ("PATH", path.as_str()),
            ("FOLDER", folder),
            ("HOME", folder),
            ("XDG_CONFIG_HOME", config.as_str()),
            ("XDG_STATE_HOME", state.as_str()),
            ("USER", "ada"),
            ("RELEASE_LEDGER_URL", ""),
            ("RELEASE_LEDGER_ACTOR", ""),
            ("DOWN", "http://127.0.0.1:1"),
            ("LEDGER", self.ledger.url()),
            ("PROXY", self.proxy.as_str()),
            ("PORTAL", self.portal.as_str()),
            ("SIGN_IN", self.sign_in.as_str()),
        ];
        variables.extend(ledger_tests::no_ci());
        Command::start_with("sh", &["-c", &script], &variables).outcome().await
    }
}

/// Starts a proxy that answers every request with a status and a page; returns its URL.
async fn start_proxy(status: &'static str) -> String {
    const PAGE: &str = "<html><body>Bad gateway</body></html>";
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = vec![0; 64 * 1024];
                let _ = client.read(&mut request).await;
                let length = PAGE.len();
                let answer = format!(
                    "HTTP/1.1 {status}\r\ncontent-type: text/html\r\ncontent-length: {length}\r\n\
                     connection: close\r\n\r\n{PAGE}"
                );
                let _ = client.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}
