// TLS below DCMTK's associations, for whoever connects to a destination.
//
//   auto transport = TlsTransport::create(destination, seconds);
//   ASC_setTransportLayer(network, transport->get(), 0);        // stays ours, and outlives network and association
//   ASC_setTransportLayerType(parameters, OFTrue);
//
// DCMTK's own TLS layer has no deadline for a handshake, keeps the reason of a failure to itself, and up to 3.6.7
// checks no host names; so the profile, the checks of the certificate and its name come from scp/dicom/tls.h. Thread
// safety: one object belongs to one thread.
#pragma once

#include <memory>
#include <string>

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmnet/dcmlayer.h>

#include "conf/base/node_settings.h"
#include "conf/base/result.h"
#include "scp/dicom/tls.h"

namespace cardionode {

class TlsTransport : public DcmTransportLayer {
public:
    /// @param destination  one with `tls`. Config: its files cannot be used.
    static Result<std::unique_ptr<TlsTransport>> create(const DestinationSettings& destination, int handshake_seconds);

    DcmTransportConnection* createConnection(DcmNativeSocketType socket, OFBool use_secure_layer) override;
    /// Why the last connection was not secured, or was ended by the peer: "unknown_ca (certificate signature failure)";
    /// empty: it was not TLS.
    const std::string& failure() const { return failure_; }

private:
    TlsTransport(TlsContext context, int handshake_seconds)
        : context_(std::move(context)), handshake_seconds_(handshake_seconds) {}
    TlsContext context_;
    int handshake_seconds_;
    std::string failure_;
};

}  // namespace cardionode
