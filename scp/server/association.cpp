#include "scp/server/association.h"

#include <algorithm>

#include <fmt/format.h>

#include "conf/base/log.h"
#include "scp/server/process_control.h"
#include "scp/store/patient_mark.h"

namespace cardionode {
namespace {

constexpr std::chrono::milliseconds kAnswerTime{10'000};  // a peer that does not take an answer for this long is gone
constexpr std::chrono::milliseconds kLeaveTime{1'000};    // for the peer to close after the last word
constexpr std::chrono::milliseconds kReportLook{250};     // while a report of storage commitment is owed
constexpr int kMaxEmptyFragments = 1000;                  // a message may not consist of nothing

bool known_pdu(std::uint8_t type) { return type >= 1 && type <= 7; }

}  // namespace

Association::Association(Connection connection, AssociationContext context)
    : connection_(std::move(connection)), context_(std::move(context)), segment_(context_.spool) {}

void Association::run() {
    const SteadyTime begun = std::chrono::steady_clock::now();
    if (!open()) return;
    be_prompt();  // not before: a crowd that stalls must not go before everybody else
    const Ending ending = serve();
    desk_.close();
    segment_.close();
    if (context_.instance_stored) context_.instance_stored(0);
    context_.slot->state = SlotState::Leaving;
    const auto seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    const bool usual = ending.how == "released";
    log_event(usual ? LogLevel::Info : LogLevel::Warning, "association_closed",
              {{"calling", request_.calling_ae_title},
               {"called", request_.called_ae_title},
               {"address", context_.peer_address},
               {"how", ending.how},
               {"detail", ending.detail},
               {"stored", stored_},
               {"refused", refused_},
               {"bytes", stored_bytes_},
               {"seconds", fmt::format("{:.3f}", seconds)}});
    connection_.close_after_answer(kLeaveTime);
    if (refused_ > 0) context_.audit.record(instances_refused(peer(), self(), refused_));
}

AuditPeer Association::peer() const { return {request_.calling_ae_title, context_.peer_address}; }
AuditPeer Association::self() const { return {context_.settings->ae_title, {}}; }

void Association::refuse(const Refusal& refusal, const AssociateRequest& request) {
    context_.slot->state = SlotState::Leaving;
    log_warning("association_refused", {{"calling", request.calling_ae_title},
                                        {"called", request.called_ae_title},
                                        {"address", context_.peer_address},
                                        {"reason", refusal.reason}});
    context_.shared->counters.rejected(refusal.reason);
    connection_.write(write_associate_reject(refusal.rejection), kAnswerTime);
    context_.audit.record(association_refused(peer(), context_.settings->ae_title, refusal.reason));
    connection_.close_after_answer(kLeaveTime);
}

/// Reads the request and answers it. false: there is no association, and the peer knows.
bool Association::open() {
    const std::chrono::seconds limit(context_.settings->association_timeout_seconds);
    const auto allowed = [](const PduHeader& header) {
        return header.type == static_cast<std::uint8_t>(PduType::AssociateRequest) &&
               header.length <= kMaxAssociateBytes;
    };
    const ReadPdu pdu = connection_.read_pdu(context_.request_until, limit, allowed, context_.request_until);
    const auto give_up = [&](std::string_view reason) {
        context_.slot->state = SlotState::Leaving;
        ++context_.shared->counters.connections_without_association;
        log_info("connection_without_association", {{"address", context_.peer_address}, {"reason", reason}});
    };
    if (pdu.end == ReadEnd::NotAllowed) {
        give_up("not_dicom");
        if (pdu.header.type == static_cast<std::uint8_t>(PduType::Abort)) return false;  // PS3.8 Table 9-10: AA-2
        connection_.write(write_abort(0, AbortReason::NotSpecified), kAnswerTime);
        connection_.close_after_answer(kLeaveTime);
        return false;
    }
    if (pdu.end != ReadEnd::Pdu) {
        give_up(pdu.end == ReadEnd::Closed ? "closed" : pdu.end == ReadEnd::TimedOut ? "silent" : "stopped");
        return false;
    }
    auto parsed = parse_associate_request(pdu.body);
    if (!parsed) {
        give_up(parsed.error().message);
        connection_.write(write_abort(2, AbortReason::InvalidParameter), kAnswerTime);
        connection_.close_after_answer(kLeaveTime);
        return false;
    }
    request_ = std::move(parsed).value();
    const auto address = parse_address(context_.peer_address);
    const TlsSession* tls = connection_.tls();
    auto refusal = refusal_of(request_, *context_.rules, address.ok() ? *address : AddressBytes{},
                              tls ? std::string_view(tls->peer_certificate()) : std::string_view());
    if (!refusal && context_.shared->spool_gone) refusal = Refusal{kRejectTooMany, "spool_gone"};
    if (!refusal && context_.shared->low_space) refusal = Refusal{kRejectTooMany, "low_space"};
    if (!refusal) {
        context_.slot->state = SlotState::Associated;  // first, so that two who come at once cannot both miss the limit
        if (context_.shared->associations() > context_.settings->max_associations)
            refusal = Refusal{kRejectTooMany, "max_associations"};
        else if (context_.shared->from_address(context_.slot->address, SlotState::Associated) >
                 context_.settings->max_associations_per_address)
            refusal = Refusal{kRejectTooMany, "max_associations_per_address"};
    }
    if (refusal) {
        refuse(*refusal, request_);
        return false;
    }
    const AddressBytes from = address.ok() ? *address : AddressBytes{};
    Services services;
    services.storage = context_.rules->calling_allowed(
        request_.calling_ae_title, from, tls ? std::string_view(tls->peer_certificate()) : std::string_view());
    services.commitment =
        context_.settings->storage_commitment || context_.rules->reports_allowed(request_.calling_ae_title, from);
    desk_.open(*context_.node, context_.shared->passes, peer(), request_.called_ae_title,
               context_.settings->storage_commitment && services.storage,
               CommitmentWatch(context_.shared->counters, context_.audit, context_.settings->ae_title));
    const std::vector<AnsweredContext> answers = answer_contexts(request_, services);
    for (const AnsweredContext& answer : answers)
        if (answer.result == ContextResult::Accepted)
            contexts_[answer.id] = {answer.abstract_syntax, find_transfer_syntax(answer.transfer_syntax)};
    ++context_.shared->counters.associations_accepted;
    log_info("association_opened", {{"calling", request_.calling_ae_title},
                                    {"called", request_.called_ae_title},
                                    {"address", context_.peer_address},
                                    {"software", request_.implementation_version},
                                    {"security", tls ? tls->version() : "none"},
                                    {"user_identity", to_string(request_.user_identity)},
                                    {"contexts", fmt::format("{}/{}", contexts_.size(), answers.size())}});
    return connection_.write(
        write_associate_accept(request_, answers, static_cast<std::uint32_t>(context_.settings->max_pdu_bytes),
                               answer_roles(request_, services)),
        kAnswerTime);
}

Association::Ending Association::abort(AbortReason reason, std::string detail, std::uint8_t source) {
    connection_.write(write_abort(source, reason), kAnswerTime);
    return {"aborted_by_us", std::move(detail)};
}

Association::Ending Association::serve() {
    const std::chrono::seconds silence(context_.settings->dimse_timeout_seconds);
    const auto longest = static_cast<std::uint32_t>(context_.settings->max_pdu_bytes);
    const SteadyTime end =
        std::chrono::steady_clock::now() + std::chrono::seconds(context_.settings->longest_association_seconds);
    SteadyTime heard = std::chrono::steady_clock::now();
    while (true) {
        const SteadyTime now = std::chrono::steady_clock::now();
        const bool between = !message_ && !command_context_;  // a message that has begun may finish
        if (between && now >= end) return abort(AbortReason::NotSpecified, "open for too long", 0);
        const SteadyTime until = between ? std::min(heard + silence, end) : heard + silence;
        const ReadPdu pdu = connection_.read_pdu(
            between && desk_.owes() ? std::min(until, now + kReportLook) : until, silence,
            [longest](const PduHeader& header) { return known_pdu(header.type) && header.length <= longest; });
        switch (pdu.end) {
            case ReadEnd::Pdu: heard = std::chrono::steady_clock::now(); break;
            case ReadEnd::Closed: return {"connection_lost", {}};
            case ReadEnd::TimedOut:
                if (between && std::chrono::steady_clock::now() < until) {
                    if (auto ending = send_report(heard)) return *ending;
                    continue;
                }
                if (between && std::chrono::steady_clock::now() >= end) continue;
                return abort(AbortReason::NotSpecified, "silent for too long", 0);
            case ReadEnd::Stopped: return abort(AbortReason::NotSpecified, "the receiver stops", 0);
            case ReadEnd::NotAllowed:
                if (!known_pdu(pdu.header.type)) return abort(AbortReason::UnrecognizedPdu, "unknown PDU type");
                return abort(AbortReason::InvalidParameter, "PDU longer than agreed");
        }
        switch (static_cast<PduType>(pdu.header.type)) {
            case PduType::Data: {
                auto values = parse_data_values(pdu.body);
                if (!values) return abort(AbortReason::InvalidParameter, values.error().message);
                for (const DataValue& value : *values)
                    if (auto ending = take(value)) return *ending;
                break;
            }
            case PduType::ReleaseRequest:
                if (message_ || command_context_) return abort(AbortReason::UnexpectedPdu, "release inside a message");
                if (!connection_.write(write_release_response(), kAnswerTime)) return {"connection_lost", {}};
                return {"released", {}};
            case PduType::Abort: return {"aborted_by_peer", {}};
            default: return abort(AbortReason::UnexpectedPdu, "unexpected PDU");
        }
    }
}

std::optional<Association::Ending> Association::take(const DataValue& value) {
    if (!contexts_.contains(value.context_id))
        return abort(AbortReason::InvalidParameter, "presentation context that was not accepted");
    empty_fragments_ = value.bytes.empty() ? empty_fragments_ + 1 : 0;
    if (empty_fragments_ > kMaxEmptyFragments) return abort(AbortReason::InvalidParameter, "too many empty fragments");
    return value.command ? take_command(value) : take_data(value);
}

std::optional<Association::Ending> Association::take_command(const DataValue& value) {
    if (message_) return abort(AbortReason::UnexpectedParameter, "command inside a data set");
    if (command_context_ && *command_context_ != value.context_id)
        return abort(AbortReason::InvalidParameter, "command in two presentation contexts");
    if (command_bytes_.size() + value.bytes.size() > kMaxCommandBytes)
        return abort(AbortReason::InvalidParameter, "command too long");
    command_context_ = value.context_id;
    command_bytes_.insert(command_bytes_.end(), value.bytes.begin(), value.bytes.end());
    if (!value.last) return std::nullopt;
    auto command = parse_command(command_bytes_);
    command_bytes_.clear();
    command_context_.reset();
    if (!command) return abort(AbortReason::InvalidParameter, command.error().message);
    message_.emplace();
    message_->context_id = value.context_id;
    message_->command = std::move(command).value();
    return start_message();
}

/// Decides what the command is; without a data set it is answered at once.
std::optional<Association::Ending> Association::start_message() {
    Message& message = *message_;
    const Context& context = contexts_.at(message.context_id);
    const Command& command = message.command;
    if (command.field == command_field::kCancelRequest || (command.field & command_field::kResponseBit) != 0) {
        // Nothing of ours can be cancelled (PS3.7 9.3.2.3), and reports of storage commitment are all we ever ask.
        desk_.take_response(command);
        if (command.has_data_set) return abort(AbortReason::UnexpectedParameter, "data set where none belongs");
        message_.reset();
        return std::nullopt;
    }
    const bool commitment = context.abstract_syntax == kStorageCommitmentClass;
    const bool storage = !commitment && context.abstract_syntax != kVerificationSopClass;
    if (commitment) {
        start_commitment();
    } else if (command.field == command_field::kStoreRequest && storage) {
        if (command.sop_class_uid != context.abstract_syntax) {
            refuse_instance(status::kClassNotSupported, "the SOP class is not that of the presentation context");
        } else if (!command.has_data_set) {
            refuse_instance(status::kCannotUnderstand, "there is no data set");
        } else if (context_.shared->spool_gone) {
            refuse_instance(status::kOutOfResources, "no room");
        } else if (auto begun = segment_.begin(); !begun) {
            log_error("cannot_store", {{"reason", begun.error().message}});
            refuse_instance(status::kOutOfResources, "no room");
        } else {
            const ScanLimits limits{.max_bytes = static_cast<std::uint64_t>(context_.settings->max_object_mib) << 20};
            message.scanner.emplace(*context.syntax, limits);
        }
    } else if (command.field == command_field::kEchoRequest && !storage) {
        message.status = status::kSuccess;
    } else {
        message.status = status::kUnrecognizedOperation;
    }
    if (command.has_data_set) return std::nullopt;
    return finish_message();
}

void Association::start_commitment() {
    Message& message = *message_;
    if (auto refused = desk_.refuse(message.command)) {
        message.status = refused->status;
        message.comment = std::move(refused->comment);
    } else {
        message.kept.emplace();
    }
}

/// A report of storage commitment that the peer waits for on this association.
std::optional<Association::Ending> Association::send_report(SteadyTime heard) {
    const auto idle = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - heard);
    const auto report = desk_.next_report(idle);
    if (!report) return std::nullopt;
    auto pdus = write_data_pdus(report->context_id, true, report->command, request_.max_pdu);
    const auto data = write_data_pdus(report->context_id, false, report->data, request_.max_pdu);
    pdus.insert(pdus.end(), data.begin(), data.end());
    if (!connection_.write(pdus, kAnswerTime)) return Ending{"connection_lost", "while reporting"};
    return std::nullopt;
}

void Association::refuse_instance(std::uint16_t status, std::string comment) {
    segment_.discard();
    message_->scanner.reset();
    message_->status = status;
    message_->comment = std::move(comment);
}

std::optional<Association::Ending> Association::take_data(const DataValue& value) {
    if (!message_ || command_context_) return abort(AbortReason::UnexpectedParameter, "data set without a command");
    Message& message = *message_;
    if (message.context_id != value.context_id)
        return abort(AbortReason::InvalidParameter, "data set in another presentation context than its command");
    message.bytes += value.bytes.size();
    const std::uint64_t most = static_cast<std::uint64_t>(context_.settings->max_object_mib) << 20;
    if (message.scanner) {
        if (message.bytes > most) {
            refuse_instance(status::kCannotUnderstand,
                            fmt::format("larger than {} MiB", context_.settings->max_object_mib));
        } else if (auto scanned = message.scanner->feed(value.bytes); !scanned) {
            const bool theirs = scanned.error().kind == ErrorKind::Reject;
            refuse_instance(theirs ? status::kCannotUnderstand : status::kOutOfResources, scanned.error().message);
        } else if (auto kept = segment_.append(value.bytes); !kept) {
            log_error("cannot_store", {{"reason", kept.error().message}});
            refuse_instance(status::kOutOfResources, "no room");
        }
    } else if (message.kept && message.bytes <= kMaxCommitmentBytes) {
        message.kept->insert(message.kept->end(), value.bytes.begin(), value.bytes.end());
    } else if (message.kept) {
        message.kept.reset();
        message.status = status::kResourceLimitation;
        message.comment = "too many instances in one request";
    } else if (message.bytes > 2 * most) {
        return abort(AbortReason::InvalidParameter, "the refused data set does not end");
    }
    if (!value.last) return std::nullopt;
    return finish_message();
}

/// The data set is whole: checks what it is and makes it durable.
void Association::store_instance() {
    Message& message = *message_;
    auto facts = message.scanner->finish();
    if (!facts) return refuse_instance(status::kCannotUnderstand, facts.error().message);
    const Command& command = message.command;
    if (auto same = check_identity(*facts, command.sop_class_uid, command.sop_instance_uid); !same)
        return refuse_instance(status::kDataSetDoesNotMatch, same.error().message);
    ReceivedInstance instance;
    instance.study_instance_uid = facts->study_instance_uid;
    instance.series_instance_uid = facts->series_instance_uid;
    instance.sop_instance_uid = facts->sop_instance_uid;
    instance.sop_class_uid = facts->sop_class_uid;
    instance.transfer_syntax_uid = contexts_.at(message.context_id).syntax->uid;
    instance.modality = facts->modality;
    instance.patient_mark = patient_mark(context_.spool.patient_key, facts->patient_id);
    instance.calling_ae_title = request_.calling_ae_title;
    instance.called_ae_title = request_.called_ae_title;
    instance.peer_address = context_.peer_address;
    instance.received_at = system_clock().now();
    if (auto committed = segment_.commit(std::move(instance)); !committed) {
        log_error("cannot_store", {{"reason", committed.error().message}});
        return refuse_instance(status::kOutOfResources, "no room");
    }
    context_.shared->counters.durable();
    ++stored_;
    stored_bytes_ += message.bytes;
}

std::optional<Association::Ending> Association::finish_message() {
    const int before = stored_;
    if (message_->scanner) store_instance();
    if (message_->kept) {
        auto outcome = desk_.take(message_->command, message_->context_id,
                                  contexts_.at(message_->context_id).syntax->encoding, *message_->kept);
        message_->status = outcome.status;
        message_->comment = std::move(outcome.comment);
    }
    const Message message = std::move(*message_);
    message_.reset();
    if (message.status != status::kSuccess) {
        ++refused_;
        context_.shared->counters.refused(message.status);
        log_warning("request_refused", {{"calling", request_.calling_ae_title},
                                        {"address", context_.peer_address},
                                        {"status", fmt::format("{:04X}", message.status)},
                                        {"reason", message.comment}});
    }
    const auto response = write_response(message.command, message.status, message.comment);
    const bool answered =
        connection_.write(write_data_pdus(message.context_id, true, response, request_.max_pdu), kAnswerTime);
    if (stored_ > before && answered) context_.shared->counters.acknowledged(message.bytes);
    if (stored_ > before && context_.instance_stored) context_.instance_stored(message.bytes);
    if (!answered) return Ending{"connection_lost", "while answering"};
    return std::nullopt;
}

}  // namespace cardionode
