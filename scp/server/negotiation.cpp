#include "scp/server/negotiation.h"

#include "scp/dicom/commitment.h"

namespace cardionode {

std::optional<Refusal> refusal_of(const AssociateRequest& request, const PeerRules& rules,
                                  const AddressBytes& peer_address, std::string_view certificate_sha256) {
    if ((request.protocol_version & 1) == 0) return Refusal{kRejectProtocolVersion, "protocol_version"};
    if (request.application_context != kApplicationContext)
        return Refusal{kRejectApplicationContext, "application_context"};
    if (!rules.called_allowed(request.called_ae_title)) return Refusal{kRejectCalledAe, "called_ae_title"};
    if (!is_ae_title(request.calling_ae_title) ||
        (!rules.calling_allowed(request.calling_ae_title, peer_address, certificate_sha256) &&
         (rules.is_peer(request.calling_ae_title) || !rules.reports_allowed(request.calling_ae_title, peer_address))))
        return Refusal{kRejectCallingAe, "calling_ae_title"};
    return std::nullopt;
}

std::vector<AnsweredContext> answer_contexts(const AssociateRequest& request, const Services& services) {
    std::vector<AnsweredContext> answers;
    answers.reserve(request.contexts.size());
    for (const ProposedContext& proposed : request.contexts) {
        AnsweredContext answer;
        answer.id = proposed.id;
        answer.abstract_syntax = proposed.abstract_syntax;
        answer.transfer_syntax = kImplicitLittle;
        const bool commitment = services.commitment && proposed.abstract_syntax == kStorageCommitmentClass;
        const bool known = commitment || proposed.abstract_syntax == kVerificationSopClass ||
                           (services.storage && find_storage_class(proposed.abstract_syntax));
        answer.result = known ? ContextResult::UnknownTransferSyntax : ContextResult::UnknownAbstractSyntax;
        for (const std::string& syntax : proposed.transfer_syntaxes) {
            const TransferSyntax* found = find_transfer_syntax(syntax);
            if (!known || !found) continue;
            const bool plain = !found->encapsulated && (found->encoding == Encoding::ImplicitLittle ||
                                                        found->encoding == Encoding::ExplicitLittle);
            if (commitment && !plain) continue;
            answer.result = ContextResult::Accepted;
            answer.transfer_syntax = syntax;
            break;
        }
        answers.push_back(std::move(answer));
    }
    return answers;
}

std::vector<RoleSelection> answer_roles(const AssociateRequest& request, const Services& services) {
    std::vector<RoleSelection> roles;
    for (const RoleSelection& role : request.roles)
        if (services.commitment && role.sop_class_uid == kStorageCommitmentClass && roles.empty())
            roles.push_back(role);
    return roles;
}

}  // namespace cardionode
