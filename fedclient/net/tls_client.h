// The client's side of TLS 1.3 from files. Private to fedclient/net.
#pragma once

#include <memory>
#include <string>

#include <openssl/ssl.h>

#include "conf/base/free_by.h"
#include "conf/base/result.h"
#include "fedclient/net/http_session.h"

namespace cardionode::fed {

using TlsContextPtr = std::unique_ptr<SSL_CTX, FreeBy<SSL_CTX_free>>;

/// TLS 1.3 alone, the CA's file trusted and nothing else, the own certificate loaded. Config: files and pins.
Result<TlsContextPtr> make_tls_context(const HttpOptions& options);
/// The name that the certificate must carry: a DNS name or an address.
bool expect_host(SSL* ssl, const std::string& host);
/// After the handshake: the server's public key is one of the pins. Config: it is not.
Result<void> check_pins(SSL* ssl, const std::vector<std::string>& pins);
/// A failed handshake or read in words. Config when a certificate is the reason, on either side; Retry otherwise.
Error tls_failure(SSL* ssl, int openssl_reason, const std::string& words);

}  // namespace cardionode::fed
