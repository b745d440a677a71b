//! The demo's web server. `GET /octets/N` returns N octets, `POST` takes what it gets. Every connection is a line on
//! standard output when it has ended; the server lives as long as its standard input.

use std::{
    io::{self, BufReader, Read},
    net::{IpAddr, SocketAddr, TcpListener},
    thread,
};

use anyhow::{Context, Result};

use super::{
    http::{self, Head},
    transcript::Recorded,
};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    addresses: Vec<IpAddr>,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    for address in &args.addresses {
        let address = SocketAddr::new(*address, args.port);
        let listener = TcpListener::bind(address).with_context(|| format!("listen on {address}"))?;
        thread::spawn(move || accept(&listener));
    }
    println!("{READY}");
    io::copy(&mut io::stdin(), &mut io::sink()).context("wait for the end of standard input")?;
    Ok(())
}

/// The first line on standard output.
pub(crate) const READY: &str = "ready";

fn accept(listener: &TcpListener) {
    for stream in listener.incoming() {
        thread::spawn(move || {
            let result = stream.and_then(|stream| {
                let mut reader = BufReader::with_capacity(256 * 1024, Recorded::server(stream)?);
                // A connection that broke has a transcript, too; the client says what it thinks of it.
                let served = serve(&mut reader);
                let transcript = reader.into_inner().finish("");
                println!("{}", serde_json::to_string(&transcript)?);
                served
            });
            if let Err(error) = result {
                eprintln!("server: {error}");
            }
        });
    }
}

fn serve(reader: &mut BufReader<Recorded>) -> io::Result<()> {
    let mut exchanges = 0;
    while let Some(request) = Head::read(reader)? {
        io::copy(&mut reader.by_ref().take(request.length), &mut io::sink())?;
        let length = request
            .line
            .strip_prefix("GET /octets/")
            .and_then(|rest| rest.split(' ').next()?.parse().ok())
            .unwrap_or_default();
        let connection = if request.close { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: demo\r\nContent-Type: application/octet-stream\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n"
        );
        http::send(reader.get_mut(), &head, &mut http::body(length + exchanges, length))?;
        exchanges += 1;
        if request.close {
            break;
        }
    }
    Ok(())
}
