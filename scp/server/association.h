// One association from its first byte to its last, in a process of its own.
//
// Why no DICOM library here: DCMTK 3.6.7 parses command sets recursively, leaves some malformed requests unanswered,
// and decides itself how to abort. This part sees only PDUs, flat command sets and a bounded scan of the data set, each
// a few hundred lines whose answers follow PS3.8 Table 9-10 and PS3.7, and it keeps the data set's bytes as they came.
//
// Thread safety: runs in a process that does nothing else.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "conf/base/files.h"
#include "conf/base/node_settings.h"
#include "scp/audit/trail.h"
#include "scp/dicom/command.h"
#include "scp/dicom/scan.h"
#include "scp/server/commitment_desk.h"
#include "scp/server/connection.h"
#include "scp/server/negotiation.h"
#include "scp/server/peer_rules.h"
#include "scp/server/shared_state.h"
#include "scp/store/segment.h"

namespace cardionode {

struct AssociationContext {
    const ScpSettings* settings = nullptr;
    const NodeSettings* node = nullptr;
    const PeerRules* rules = nullptr;
    Spool spool;
    SharedState* shared = nullptr;
    Slot* slot = nullptr;
    std::string peer_address;
    SteadyTime request_until{};  ///< when the A-ASSOCIATE-RQ must have come whole
    AuditTrail audit;
    std::function<bool()> stop;  ///< true: end at the next message
    /// Called after the answer, and with 0 at the end of the association.
    std::function<void(std::uint64_t bytes)> instance_stored;
};

class Association {
public:
    Association(Connection connection, AssociationContext context);
    /// Until the peer releases, aborts, closes, breaks a rule or is silent for too long. Logs how it ended.
    void run();

private:
    struct Message {  ///< a command that came, and what became of its data set so far
        std::uint8_t context_id = 0;
        Command command;
        std::optional<DataSetScanner> scanner;
        std::optional<std::vector<std::byte>> kept;  ///< of a request of the commitment class: its data set so far
        std::uint64_t bytes = 0;
        std::uint16_t status = status::kSuccess;
        std::string comment;
    };
    struct Context {
        std::string abstract_syntax;
        const TransferSyntax* syntax = nullptr;
    };
    struct Ending {
        std::string_view how;  ///< a fixed word for the log
        std::string detail;
    };

    bool open();
    void refuse(const Refusal& refusal, const AssociateRequest& request);
    Ending serve();
    std::optional<Ending> take(const DataValue& value);
    std::optional<Ending> take_command(const DataValue& value);
    std::optional<Ending> take_data(const DataValue& value);
    std::optional<Ending> start_message();
    void start_commitment();
    std::optional<Ending> send_report(SteadyTime heard);
    std::optional<Ending> finish_message();
    void refuse_instance(std::uint16_t status, std::string comment);
    void store_instance();
    AuditPeer peer() const;
    AuditPeer self() const;
    Ending abort(AbortReason reason, std::string detail, std::uint8_t source = 2);

    Connection connection_;
    AssociationContext context_;
    AssociateRequest request_;
    std::map<std::uint8_t, Context> contexts_;
    SegmentWriter segment_;
    std::vector<std::byte> command_bytes_;
    std::optional<std::uint8_t> command_context_;  ///< of a command whose last fragment has not come
    CommitmentDesk desk_;
    std::optional<Message> message_;  ///< of a command whose data set has not come whole
    int empty_fragments_ = 0;
    int stored_ = 0;
    int refused_ = 0;
    std::uint64_t stored_bytes_ = 0;
};

}  // namespace cardionode
