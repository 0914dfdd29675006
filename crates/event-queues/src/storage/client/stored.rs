//! Has Google Cloud Storage give out objects as they are stored.
//!
//! An object with `Content-Encoding: gzip` it unpacks on its way to whoever does not say that gzip is taken, and tells neither
//! length nor version then; and of one of more than some MiB it tells the length in a header of its own, if at all. Without a
//! length the client takes no answer. Only requests for objects say so: listings and credentials would come packed.
//!
//! Sources: <https://cloud.google.com/storage/docs/transcoding>,
//! <https://cloud.google.com/storage/docs/xml-api/reference-headers> (`x-goog-stored-content-length`).

use std::pin::Pin;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{ClientOptions, Error};

const LENGTH: &str = "content-length";
const STORED_LENGTH: &str = "x-goog-stored-content-length";

/// Makes such clients.
#[derive(Debug, Default)]
pub(super) struct StoredConnector(ReqwestConnector);

#[derive(Debug)]
struct StoredClient(HttpClient);

impl HttpConnector for StoredConnector {
    fn connect(&self, options: &ClientOptions) -> Result<HttpClient, Error> {
        Ok(HttpClient::new(StoredClient(self.0.connect(options)?)))
    }
}

impl StoredClient {
    async fn ask(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // An object is asked for by its version, or looked at.
        let is_object = request.method().as_str() == "HEAD" || request.headers().contains_key("if-match");
        if !is_object {
            return self.0.execute(request).await;
        }
        if let Ok(gzip) = "gzip".parse() {
            request.headers_mut().insert("accept-encoding", gzip);
        }
        let mut answer = self.0.execute(request).await?;
        let headers = answer.headers_mut();
        if !headers.contains_key(LENGTH)
            && let Some(stored) = headers.get(STORED_LENGTH).cloned()
        {
            headers.insert(LENGTH, stored);
        }
        Ok(answer)
    }
}

impl HttpService for StoredClient {
    fn call<'life0, 'async_trait>(
        &'life0 self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'async_trait>>
    where
        'life0: 'async_trait,
        Self: 'async_trait,
    {
        Box::pin(self.ask(request))
    }
}
