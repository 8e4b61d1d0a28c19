//! [`Endpoint`]: where Prometheus finds the numbers, by HTTP, on the control thread.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Socket};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::exports::Catalogue;
use crate::metrics::{self, Effort, Page};
use crate::net::activation::Activation;
use crate::net::listen::{Listen, Place};
use crate::sys;

/// The path of the numbers.
const PATH: &str = "/metrics";

/// Connections at a time; one more ends the oldest, for one that is meant takes milliseconds.
const CONNECTIONS_MAX: usize = 16;

/// How long one may take from its beginning to its end. There is one answer on each.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// How long to wait after connections could not be accepted.
const PAUSE: Duration = Duration::from_millis(100);

/// What the numbers are taken from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) catalogue: Arc<Catalogue>,
    pub(super) efforts: Arc<[Arc<Effort>]>,
}

impl Source {
    fn text(&self) -> String {
        let exports = self.catalogue.exports();
        let page =
            Page::now(exports.iter().map(|export| &**export), self.efforts.iter().map(|effort| &**effort));
        page.into_text().unwrap_or_default()
    }
}

/// A place where the numbers are told. Dropping this closes it.
#[derive(Debug)]
pub(super) struct Endpoint {
    tasks: Vec<JoinHandle<()>>,
    /// Its socket file goes with it.
    _place: Place,
}

impl Endpoint {
    /// Tells them at `listen` from now on.
    ///
    /// # Errors
    /// What is in the way.
    pub(super) fn open(listen: &Listen, source: &Source) -> Result<Endpoint, drivers::Error> {
        let mut place = Place::open(listen, &mut Activation::default(), false)?;
        let mut tasks = Vec::new();
        for socket in place.take_sockets() {
            let listener = sys::watch_listener(socket)
                .map_err(|cause| drivers::Error::system("wait for those who want the metrics", &cause))?;
            tasks.push(tokio_uring::spawn(accept(listener, source.clone())));
        }
        tracing::info!("metrics are told on {}", place.name());
        Ok(Endpoint { tasks, _place: place })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Connections of one socket, the oldest first. They end with it.
struct Connections(VecDeque<JoinHandle<()>>);

impl Connections {
    fn add(&mut self, connection: JoinHandle<()>) {
        self.0.retain(|other| !other.is_finished());
        if self.0.len() == CONNECTIONS_MAX
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.abort();
        }
        self.0.push_back(connection);
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: AsyncFd<Socket>, source: Source) {
    let mut connections = Connections(VecDeque::new());
    loop {
        match sys::accept(&listener).await {
            Ok((socket, _)) => {
                let answer = timeout(PATIENCE, answer(socket, source.clone()));
                connections.add(tokio_uring::spawn(async {
                    match answer.await {
                        Ok(Ok(())) => {}
                        Ok(Err(cause)) => tracing::debug!("who wanted the metrics did not get them: {cause}"),
                        Err(_) => tracing::debug!("whoever wanted the metrics took too long"),
                    }
                }));
            }
            Err(cause) => {
                tracing::debug!("cannot accept who wants the metrics: {cause}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn answer(socket: Socket, source: Source) -> Result<(), Box<dyn Error>> {
    socket.set_nonblocking(true)?;
    if socket.domain()? == Domain::UNIX {
        serve(UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?, source).await
    } else {
        serve(TcpStream::from_std(socket.into())?, source).await
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, source: Source) -> Result<(), Box<dyn Error>> {
    let service = service_fn(move |request| {
        let response = respond(&request, &source);
        async move { Ok::<_, Infallible>(response) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_BYTES_MAX)
        .keep_alive(false);
    Ok(builder.serve_connection(TokioIo::new(stream), service).await?)
}

fn respond(request: &Request<Incoming>, source: &Source) -> Response<Full<Bytes>> {
    let is_known = matches!(*request.method(), Method::GET | Method::HEAD);
    match request.uri().path() {
        _ if !is_known => {
            let mut response =
                plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are understood\n".into());
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        PATH => {
            let mut response = plain(StatusCode::OK, source.text());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, format!("the metrics are at {PATH}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
