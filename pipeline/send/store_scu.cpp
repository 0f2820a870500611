#include "pipeline/send/store_scu.h"

#include <csignal>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string_view>

#include <dcmtk/config/osconfig.h>

#include <dcmtk/dcmdata/dctk.h>
#include <dcmtk/dcmnet/assoc.h>
#include <dcmtk/dcmnet/dcmtrans.h>
#include <dcmtk/dcmnet/dimse.h>
#include <dcmtk/dcmnet/dul.h>
#include <dcmtk/oflog/oflog.h>
#include <fmt/format.h>

#include "pipeline/send/status.h"
#include "pipeline/send/tls_transport.h"
#include "scp/dicom/syntaxes.h"

namespace cardionode {
namespace {

template <class T, OFCondition (*Free)(T**)>
struct DcmtkFree {
    void operator()(T* p) const noexcept { Free(&p); }
};
using NetworkPtr = std::unique_ptr<T_ASC_Network, DcmtkFree<T_ASC_Network, ASC_dropNetwork>>;
using ParametersPtr = std::unique_ptr<T_ASC_Parameters, DcmtkFree<T_ASC_Parameters, ASC_destroyAssociationParameters>>;
using AssociationPtr = std::unique_ptr<T_ASC_Association, DcmtkFree<T_ASC_Association, ASC_destroyAssociation>>;

constexpr T_ASC_PresentationContextID kOwnSyntax = 1, kDefaultSyntax = 3;
constexpr DIC_US kMessageId = 1;

/// DCMTK's words for people, on one line.
std::string words(const OFCondition& condition) {
    std::string text = condition.text();
    const auto line_end = text.find('\n');
    return line_end == std::string::npos ? text : text.substr(0, line_end);
}

/// What the file's own header says it is.
struct Object {
    DcmFileFormat file;
    std::string sop_class_uid;
    std::string sop_instance_uid;
    E_TransferSyntax syntax = EXS_Unknown;
};

Result<void> load(Object& object, const std::filesystem::path& path, const OutputFile& output) {
    const OFCondition loaded = object.file.loadFile(path.c_str());
    if (loaded.bad()) return reject_error("the output file cannot be read: " + words(loaded));
    OFString sop_class, instance;
    object.file.getDataset()->findAndGetOFString(DCM_SOPClassUID, sop_class);
    object.file.getDataset()->findAndGetOFString(DCM_SOPInstanceUID, instance);
    object.sop_class_uid = sop_class.c_str();
    object.sop_instance_uid = instance.c_str();
    object.syntax = object.file.getDataset()->getOriginalXfer();
    if (object.sop_class_uid != output.sop_class_uid || object.sop_instance_uid != output.sop_instance_uid) {
        return reject_error("the output file is not the instance that the outbox names");
    }
    return {};
}

Result<ParametersPtr> propose(const Object& object, const DestinationSettings& destination) {
    T_ASC_Parameters* raw = nullptr;
    OFCondition condition = ASC_createAssociationParameters(&raw, ASC_DEFAULTMAXPDU);
    ParametersPtr parameters(raw);
    if (condition.bad()) return bug_error("association parameters: " + words(condition));
    const std::string address = fmt::format("{}:{}", destination.host, destination.port);
    // Who sends is this node, with whatever library: DCMTK would name itself.
    OFStandard::strlcpy(raw->ourImplementationClassUID, std::string(kImplementationClassUid).c_str(),
                        sizeof raw->ourImplementationClassUID);
    OFStandard::strlcpy(raw->ourImplementationVersionName, std::string(kImplementationVersion).c_str(),
                        sizeof raw->ourImplementationVersionName);
    ASC_setAPTitles(raw, destination.calling_ae_title.c_str(), destination.ae_title.c_str(), nullptr);
    ASC_setPresentationAddresses(raw, OFStandard::getHostName().c_str(), address.c_str());
    const DcmXfer syntax(object.syntax);
    const char* own[] = {syntax.getXferID()};
    condition = ASC_addPresentationContext(raw, kOwnSyntax, object.sop_class_uid.c_str(), own, 1);
    if (condition.good() && !syntax.isEncapsulated() && object.syntax != EXS_LittleEndianImplicit) {
        const char* fallback[] = {UID_LittleEndianImplicitTransferSyntax};
        condition = ASC_addPresentationContext(raw, kDefaultSyntax, object.sop_class_uid.c_str(), fallback, 1);
    }
    if (condition.bad()) return bug_error("presentation context: " + words(condition));
    return parameters;
}

Error refused(const SendVerdict& verdict) {
    return {verdict.outcome == SendOutcome::Park ? ErrorKind::Reject : ErrorKind::Retry, verdict.words};
}

/// Connects and negotiates. The parameters belong to the association afterwards, also when it was refused.
/// @param tls  nullptr: plain
Result<AssociationPtr> associate(T_ASC_Network* network, ParametersPtr parameters, const TlsTransport* tls,
                                 const SendTimeouts& timeouts) {
    T_ASC_Association* raw = nullptr;
    const OFCondition condition =
        ASC_requestAssociation(network, parameters.get(), &raw, nullptr, nullptr, DUL_NOBLOCK, timeouts.acse_seconds);
    AssociationPtr association(raw);
    if (association) parameters.release();
    if (condition == DUL_ASSOCIATIONREJECTED) {
        T_ASC_RejectParameters reject{};
        if (association) ASC_getRejectParameters(association->params, &reject);
        // DCMTK keeps the source in the high byte of the reason.
        return refused(judge_rejection(reject.result, reject.source, reject.reason & 0xFF));
    }
    if (condition.bad() && tls && !tls->failure().empty()) return retry_error("no association: TLS: " + tls->failure());
    if (condition.bad()) return retry_error("no association: " + words(condition));
    if (!association) return retry_error("no association");
    return association;
}

/// One that was accepted in the transfer syntax that it proposed; another one we could not write.
std::optional<T_ASC_PresentationContextID> accepted_context(T_ASC_Association* association) {
    for (const auto id : {kOwnSyntax, kDefaultSyntax}) {
        T_ASC_PresentationContext context{};
        if (ASC_findAcceptedPresentationContext(association->params, id, &context).good() &&
            context.resultReason == ASC_P_ACCEPTANCE &&
            std::string_view(context.acceptedTransferSyntax) == context.proposedTransferSyntaxes[0]) {
            return id;
        }
    }
    return std::nullopt;
}

/// The response to our request, or why there is none that counts.
Result<std::string> store(T_ASC_Association* association, Object& object, T_ASC_PresentationContextID context,
                          const SendTimeouts& timeouts) {
    T_DIMSE_C_StoreRQ request{};
    request.MessageID = kMessageId;
    OFStandard::strlcpy(request.AffectedSOPClassUID, object.sop_class_uid.c_str(), sizeof request.AffectedSOPClassUID);
    OFStandard::strlcpy(request.AffectedSOPInstanceUID, object.sop_instance_uid.c_str(),
                        sizeof request.AffectedSOPInstanceUID);
    request.DataSetType = DIMSE_DATASET_PRESENT;
    request.Priority = DIMSE_PRIORITY_MEDIUM;
    T_DIMSE_C_StoreRSP response{};
    DcmDataset* raw_detail = nullptr;
    const OFCondition condition =
        DIMSE_storeUser(association, context, &request, nullptr, object.file.getDataset(), nullptr, nullptr,
                        DIMSE_NONBLOCKING, timeouts.dimse_seconds, &response, &raw_detail);
    const std::unique_ptr<DcmDataset> detail(raw_detail);
    if (condition == DIMSE_NODATAAVAILABLE) {
        return retry_error(fmt::format("no answer to the C-STORE within {} s", timeouts.dimse_seconds));
    }
    if (condition.bad()) return retry_error("C-STORE: " + words(condition));
    if (response.MessageIDBeingRespondedTo != request.MessageID) {
        return retry_error("the answer belongs to another message");
    }
    if ((response.opts & O_STORE_AFFECTEDSOPINSTANCEUID) != 0 &&
        object.sop_instance_uid != response.AffectedSOPInstanceUID) {
        return retry_error("the answer names another instance");
    }
    const SendVerdict verdict = judge_store_status(response.DimseStatus);
    if (verdict.outcome != SendOutcome::Sent) return refused(verdict);
    return verdict.words;
}

Result<std::string> send(const std::filesystem::path& path, const OutputFile& output,
                         const DestinationSettings& destination, const SendTimeouts& timeouts) {
    Object object;
    if (auto loaded = load(object, path, output); !loaded) return std::move(loaded).error();
    auto parameters = propose(object, destination);
    if (!parameters) return std::move(parameters).error();

    std::unique_ptr<TlsTransport> tls;  // outlives network and association
    if (destination.tls) {
        auto made = TlsTransport::create(destination, timeouts.acse_seconds);
        // The files were right when the service started: they may be in the middle of a change.
        if (!made) return retry_error(std::move(made).error().message);
        tls = std::move(made).value();
    }
    T_ASC_Network* raw_network = nullptr;
    const OFCondition made = ASC_initializeNetwork(NET_REQUESTOR, 0, timeouts.acse_seconds, &raw_network);
    const NetworkPtr network(raw_network);  // outlives the association
    if (made.bad()) return retry_error("network: " + words(made));
    if (tls && (ASC_setTransportLayer(network.get(), tls.get(), 0).bad() ||
                ASC_setTransportLayerType(parameters->get(), OFTrue).bad()))
        return bug_error("DCMTK did not take the TLS layer");
    auto association = associate(network.get(), std::move(*parameters), tls.get(), timeouts);
    if (!association) return std::move(association).error();

    const auto context = accepted_context(association->get());
    if (!context) {
        ASC_abortAssociation(association->get());
        return reject_error("the destination does not take this kind of object: no presentation context was accepted");
    }
    auto answer = store(association->get(), object, *context, timeouts);
    // What was answered stands, whatever becomes of the good-bye.
    if (answer || answer.error().kind == ErrorKind::Reject) {
        (void)ASC_releaseAssociation(association->get());
    } else {
        (void)ASC_abortAssociation(association->get());
    }
    return answer;
}

}  // namespace

void prepare_dicom_network(int connect_seconds, int write_seconds) {
    OFLog::configure(OFLogger::OFF_LOG_LEVEL);
    ::setenv("TCP_NODELAY", "1", 1);  // DCMTK reads it at each connect
    std::signal(SIGPIPE, SIG_IGN);    // a peer that goes away is an error of write(), not our end
    dcmConnectionTimeout.set(connect_seconds);
    dcmSocketSendTimeout.set(write_seconds);
    dcmSocketReceiveTimeout.set(write_seconds);
}

Result<std::string> store_output(const std::filesystem::path& file, const OutputFile& output,
                                 const DestinationSettings& destination, const SendTimeouts& timeouts) {
    const std::string who =
        fmt::format("{} ({} at {}:{})", destination.name, destination.ae_title, destination.host, destination.port);
    try {
        auto sent = send(file, output, destination, timeouts);
        if (!sent) return std::move(sent).error().in(who);
        return sent;
    } catch (const std::bad_alloc&) {
        return retry_error("not enough memory to send the file").in(who);
    } catch (const std::exception& e) {
        return bug_error(e.what()).in(who);
    }
}

}  // namespace cardionode
