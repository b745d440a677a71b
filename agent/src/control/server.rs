//! The agent's end: bounded in clients, octets and time, and never on the way of a frame.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, ensure};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{Semaphore, mpsc, oneshot},
    task, time,
};

use super::{CLIENTS_MAX, PATIENCE, Parse, Parsed, REQUEST_MAX, Refusal, Request, Socket, Words, decode, encode};
use crate::error::Reason;

/// Something for who has the kernel's maps to do. Whoever gets no reply was told that the capture ends.
#[derive(Debug)]
pub struct Order {
    pub what: What,
    pub reply: oneshot::Sender<anyhow::Result<Value>>,
}

/// What there is to do.
#[derive(Debug)]
pub enum What {
    Show,
    Set(Box<Change>),
}

/// A filter that is to come into force.
#[derive(Debug)]
pub struct Change {
    pub words: Words,
    pub parsed: Parsed,
    /// The generation that it is a new reading of, when it is one: of another it must not take the place.
    pub instead_of: Option<u32>,
}

/// Serves clients for as long as it is polled. Words are parsed, and files read, on threads of their own.
pub async fn serve(socket: &Socket, parse: Parse, orders: mpsc::Sender<Order>) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&clients).acquire_owned().await else { return };
        match socket.accept().await {
            Ok(stream) => {
                let orders = orders.clone();
                tokio::spawn(async move {
                    attend(stream, parse, &orders).await;
                    drop(permit);
                });
            }
            // There is no descriptor left, or no memory.
            Err(_) => time::sleep(PATIENCE / 10).await,
        }
    }
}

/// One request, one answer.
async fn attend(mut stream: UnixStream, parse: Parse, orders: &mpsc::Sender<Order>) {
    let (reader, mut writer) = stream.split();
    let request = within("the request", async {
        let mut line = Vec::new();
        let read = BufReader::new(reader.take(REQUEST_MAX as u64 + 1)).read_until(b'\n', &mut line).await;
        read.map_err(|error| anyhow!("read the request: {}", Reason(&error)))?;
        ensure!(line.len() <= REQUEST_MAX, "the request is longer than {REQUEST_MAX} octets");
        decode(&line).context("the request is not one")
    });
    let answer = match request.await {
        Ok(request) => within("the answer", obey(request, parse, orders)).await,
        Err(error) => Err(error),
    };
    let line = answer.and_then(encode).or_else(|error| encode(Refusal { error: one_line(&error) }));
    if let Ok(line) = line {
        // Who does not read it does not want it.
        let _ = time::timeout(PATIENCE, writer.write_all(&line)).await;
    }
}

async fn obey(request: Request, parse: Parse, orders: &mpsc::Sender<Order>) -> anyhow::Result<Value> {
    match request {
        Request::Show => give(What::Show, orders).await,
        Request::Set(words) => set(words, parse, None, orders).await,
    }
}

/// Reads again what the files say that `words` name, which are those of `generation`.
///
/// # Errors
///
/// When they cannot be read or mean nothing, and when the filter cannot be set.
pub async fn read_again(
    words: Words,
    generation: u32,
    parse: Parse,
    orders: &mpsc::Sender<Order>,
) -> anyhow::Result<Value> {
    within("reading its files", set(words, parse, Some(generation), orders)).await
}

async fn set(
    words: Words,
    parse: Parse,
    instead_of: Option<u32>,
    orders: &mpsc::Sender<Order>,
) -> anyhow::Result<Value> {
    let (words, parsed) = task::spawn_blocking(move || {
        let parsed = parse(&words);
        (words, parsed)
    })
    .await?;
    give(What::Set(Box::new(Change { words, parsed: parsed?, instead_of })), orders).await
}

async fn give(what: What, orders: &mpsc::Sender<Order>) -> anyhow::Result<Value> {
    let (reply, answer) = oneshot::channel();
    let ended = "the capture ends";
    orders.send(Order { what, reply }).await.map_err(|_| anyhow!(ended))?;
    answer.await.map_err(|_| anyhow!(ended))?
}

async fn within<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let late = || anyhow!("{what} took longer than {PATIENCE:?}");
    time::timeout(PATIENCE, work).await.map_err(|_| late())?
}

/// With its causes, and without line breaks.
pub fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        os::unix::net::UnixStream as Client,
        path::PathBuf,
        process, thread,
    };

    use super::*;
    use crate::filter::Filter;

    /// A server whose orders are answered with what they were, and what `clients` make of it.
    fn with_server<T: Send + 'static>(test: &str, clients: impl FnOnce(PathBuf) -> T + Send + 'static) -> T {
        // One of its own, since who makes a socket holds its folder.
        let folder = std::env::temp_dir().join(format!("xdpflow-server-{test}-{}", process::id()));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("control");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async {
            let socket = Socket::bind(&path).unwrap();
            let (sender, mut orders) = mpsc::channel::<Order>(1);
            let talk = task::spawn_blocking(move || clients(path));
            let answer = async {
                while let Some(Order { what, reply }) = orders.recv().await {
                    let answer = match what {
                        What::Show => Ok(serde_json::json!({ "shown": true })),
                        What::Set(change) => Ok(serde_json::json!({ "set": change.words.words })),
                    };
                    reply.send(answer).unwrap();
                }
            };
            tokio::select! {
                () = serve(&socket, parse, sender) => panic!("the server ended"),
                () = answer => panic!("there are no more orders"),
                result = talk => result.unwrap(),
            }
        });
        std::fs::remove_dir(&folder).unwrap();
        result
    }

    fn parse(words: &Words) -> anyhow::Result<Parsed> {
        ensure!(words.words != ["bad"], "a word\nthat is bad");
        Ok(Parsed { filter: Filter::everything(), meaning: String::new(), reads_files: false })
    }

    fn told(mut stream: &Client) -> String {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn say(path: &PathBuf, octets: &[u8]) -> String {
        let mut stream = Client::connect(path).unwrap();
        // Of what is too long only a part is read.
        let _ = stream.write_all(octets);
        told(&stream)
    }

    #[test]
    fn a_line_is_answered_with_a_line() {
        with_server("line", |path| {
            for (line, answer) in [
                (r#"{"v":1,"do":"show"}"#, r#"{"v":1,"shown":true}"#),
                (r#"{"v":1,"do":"set","words":["a","b c"],"directory":"/"}"#, r#"{"v":1,"set":["a","b c"]}"#),
                (r#"{"v":1,"do":"set","words":["bad"],"directory":"/"}"#, r#"{"v":1,"error":"a word that is bad"}"#),
                (
                    "show",
                    r#"{"v":1,"error":"the request is not one: not a line of JSON: expected value at line 1 column 1"}"#,
                ),
            ] {
                assert_eq!(say(&path, format!("{line}\n").as_bytes()), format!("{answer}\n"));
            }
        });
    }

    #[test]
    fn what_is_too_long_is_refused_without_reading_it() {
        with_server("long", |path| {
            let answer = say(&path, &vec![b' '; 4 * REQUEST_MAX]);
            assert_eq!(answer, "{\"v\":1,\"error\":\"the request is longer than 65536 octets\"}\n");
            let mut just = format!("{}{{\"v\":1,\"do\":\"show\"}}", " ".repeat(REQUEST_MAX - 20));
            just.push('\n');
            assert_eq!(just.len(), REQUEST_MAX);
            assert_eq!(say(&path, just.as_bytes()), "{\"v\":1,\"shown\":true}\n");
        });
    }

    #[test]
    fn clients_that_hang_hold_up_the_others_for_a_while_at_most() {
        with_server("hang", |path| {
            let silent: Vec<_> = (0..2 * CLIENTS_MAX)
                .map(|i| {
                    let mut stream = Client::connect(&path).unwrap();
                    stream.write_all(&b"{\"v\":1,\"do\""[..i.min(10)]).unwrap();
                    stream
                })
                .collect();
            let waiting = thread::spawn(move || say(&path, b"{\"v\":1,\"do\":\"show\"}\n"));
            for stream in &silent {
                assert_eq!(told(stream), "{\"v\":1,\"error\":\"the request took longer than 1.5s\"}\n");
            }
            assert_eq!(waiting.join().unwrap(), "{\"v\":1,\"shown\":true}\n");
        });
    }
}
