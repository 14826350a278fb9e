//! The client against a server that says what a test wants.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use http_body_util::Full;

use super::*;
use crate::config::{Limits, Secret};
use crate::serve::body::ClientBody;
use crate::serve::listener::{self, Handler};
use crate::serve::shutdown::{Stopper, stopper};

/// Gives prepared answers in turn, and counts.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

/// Status and body of each answer to come, and how many were given.
type Script = (VecDeque<(u16, &'static str)>, u32);

impl Handler for Scripted {
    type Body = Full<Bytes>;

    async fn answer(
        &self,
        request: Request<ClientBody>,
        _peer: SocketAddr,
    ) -> Response<Full<Bytes>> {
        assert!(request.headers().contains_key("authorization"));
        let _ = request.into_body().collect().await;
        let mut script = self.0.lock();
        script.1 += 1;
        let (status, body) = script.0.pop_front().unwrap_or((200, ""));
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from_static(body.as_bytes())))
            .unwrap()
    }
}

async fn server(answers: &[(u16, &'static str)]) -> (Client, Scripted, Stopper) {
    let script = Scripted::default();
    script.0.lock().0.extend(answers);
    let listener = listener::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let client = client(&format!("http://{}", listener.local_addr().unwrap()));
    let (stopper, stop) = stopper();
    tokio::spawn(listener::serve(
        listener,
        script.clone(),
        Limits::default(),
        None,
        stop,
    ));
    (client, script, stopper)
}

fn client(endpoint: &str) -> Client {
    let keys = Keys {
        access_key: "AK".into(),
        secret_key: Secret::new("secret"),
        from: "the environment (AWS_ACCESS_KEY_ID)".into(),
    };
    let endpoint: Endpoint = endpoint.parse().unwrap();
    let target = Target {
        s3: endpoint.clone(),
        http: endpoint,
        trust: Trust::default(),
        keys: Some(keys),
        data_dir: PathBuf::from("/nonexistent"),
    };
    Client::new(target).unwrap()
}

const NO_KEY: &str =
    "<Error><Code>NoSuchKey</Code><Message>The specified key does not exist.</Message></Error>";

/// Scripts tell what happened by the exit code.
#[tokio::test]
async fn server_errors_become_exit_codes() {
    let answers = [
        (404, NO_KEY, Exit::NotFound),
        (
            403,
            "<Error><Code>InvalidAccessKeyId</Code><Message>no</Message></Error>",
            Exit::Denied,
        ),
        (
            412,
            "<Error><Code>PreconditionFailed</Code></Error>",
            Exit::Precondition,
        ),
        (
            409,
            "<Error><Code>BucketNotEmpty</Code></Error>",
            Exit::Precondition,
        ),
        (
            400,
            "<Error><Code>InvalidArgument</Code></Error>",
            Exit::Failure,
        ),
        (507, "", Exit::Failure),
        (
            403,
            "{\"error\":{\"code\":\"AccessDenied\",\"message\":\"root only\"}}",
            Exit::Denied,
        ),
    ];
    let script: Vec<_> = answers
        .iter()
        .map(|(status, body, _)| (*status, *body))
        .collect();
    let (client, _, _stopper) = server(&script).await;
    for (status, body, exit) in answers {
        let failure = client
            .send(Call::new(Method::GET).bucket("b").key("k"))
            .await
            .unwrap_err();
        assert_eq!(failure.exit, exit, "{status} {body}: {}", failure.text());
        if status == 403 && body.starts_with('<') {
            assert!(
                failure.fix.unwrap().contains("AWS_ACCESS_KEY_ID"),
                "says where the wrong key came from"
            );
        }
    }
}

/// 503 says that nothing was done: the request is sent again, unless a condition makes the second try another question.
#[tokio::test]
async fn unavailable_server_is_asked_again() {
    let (client, script, _stopper) = server(&[(503, ""), (503, ""), (200, "")]).await;
    client
        .send(Call::new(Method::PUT).bucket("b").key("k"))
        .await
        .unwrap();
    assert_eq!(script.0.lock().1, 3);

    let (client, script, _stopper) = server(&[(503, ""), (200, "")]).await;
    let conditional = Call::new(Method::PUT)
        .bucket("b")
        .key("k")
        .header_if("if-none-match", Some("*"));
    assert_eq!(
        client.send(conditional).await.unwrap_err().exit,
        Exit::Unavailable
    );
    assert_eq!(script.0.lock().1, 1);
}

/// Nobody listens: exit code 6, and the command that starts a server.
#[tokio::test]
async fn missing_server_is_told_with_a_way_out() {
    let failure = client("http://127.0.0.1:1")
        .send(Call::new(Method::PUT).header_if("x-a", Some("b")))
        .await
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(
        failure.text().contains("minikv") && failure.text().contains("--endpoint"),
        "{}",
        failure.text()
    );
}

/// The server closed a kept connection: the next request takes a new one, unnoticed.
#[tokio::test]
async fn closed_connection_is_replaced() {
    let (first, _, stopper) = server(&[]).await;
    first.send(Call::new(Method::GET)).await.unwrap();
    let addr: SocketAddr = first.endpoint.authority().parse().unwrap();
    assert!(stopper.stop(Duration::from_secs(5)).await);
    let (_stopper, stop) = stopper_pair();
    let listener = listener::bind(addr).await.unwrap();
    tokio::spawn(listener::serve(
        listener,
        Scripted::default(),
        Limits::default(),
        None,
        stop,
    ));
    first
        .send(Call::new(Method::GET).header_if("if-match", Some("x")))
        .await
        .unwrap();
}

fn stopper_pair() -> (Stopper, crate::serve::shutdown::Stop) {
    stopper()
}

/// A URL carries any key, and the same bytes are signed.
#[test]
fn any_key_becomes_a_uri() {
    let call = Call::new(Method::GET)
        .bucket("b")
        .key("a b/ä+%?#")
        .query("prefix", "x y&z")
        .query("uploads", "");
    assert_eq!(
        call.uri(),
        "/b/a%20b/%C3%A4%2B%25%3F%23?prefix=x%20y%26z&uploads="
    );
}
