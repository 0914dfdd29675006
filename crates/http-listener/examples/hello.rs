//! A server that says hello until it is interrupted: `cargo run -p http-listener --example hello`.

use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use http_listener::{Answer, ConnectionLimits, Listener};
use tokio::sync::watch;

fn hello() -> Answer {
    Answer::new(Full::new(Bytes::from_static(b"hello\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), "address", ConnectionLimits::default()).await?;
    writeln!(io::stdout(), "http://{}/", listener.local_addr())?;
    let (stop, stopped) = watch::channel(false);
    let served =
        listener.run(|| None, |_request, _caller| async { hello() }, stopped, Duration::from_secs(1));
    let (cut_off, interrupted) = tokio::join!(served, async {
        let interrupted = tokio::signal::ctrl_c().await;
        stop.send_replace(true);
        interrupted
    });
    interrupted?;
    writeln!(io::stdout(), "{cut_off} connections were cut off")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn it_says_hello_and_stops() -> Result<(), Box<dyn Error>> {
        let listener =
            Listener::bind(([127, 0, 0, 1], 0).into(), "address", ConnectionLimits::default()).await?;
        let address = listener.local_addr();
        let (stop, stopped) = watch::channel(false);
        let served =
            listener.run(|| None, |_request, _caller| async { hello() }, stopped, Duration::from_secs(1));
        let (cut_off, asked) = tokio::join!(served, async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            stop.send_replace(true);
            io::Result::Ok(answer)
        });
        let answer = asked?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello\n"), "{answer}");
        assert_eq!(cut_off, 0);
        Ok(())
    }
}
