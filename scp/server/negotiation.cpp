#include "scp/server/negotiation.h"

namespace cardionode {

std::optional<Refusal> refusal_of(const AssociateRequest& request, const PeerRules& rules,
                                  const AddressBytes& peer_address, std::string_view certificate_sha256) {
    if ((request.protocol_version & 1) == 0) return Refusal{kRejectProtocolVersion, "protocol_version"};
    if (request.application_context != kApplicationContext)
        return Refusal{kRejectApplicationContext, "application_context"};
    if (!rules.called_allowed(request.called_ae_title)) return Refusal{kRejectCalledAe, "called_ae_title"};
    if (!is_ae_title(request.calling_ae_title) ||
        !rules.calling_allowed(request.calling_ae_title, peer_address, certificate_sha256))
        return Refusal{kRejectCallingAe, "calling_ae_title"};
    return std::nullopt;
}

std::vector<AnsweredContext> answer_contexts(const AssociateRequest& request) {
    std::vector<AnsweredContext> answers;
    answers.reserve(request.contexts.size());
    for (const ProposedContext& proposed : request.contexts) {
        AnsweredContext answer;
        answer.id = proposed.id;
        answer.abstract_syntax = proposed.abstract_syntax;
        answer.transfer_syntax = kImplicitLittle;
        const bool known =
            proposed.abstract_syntax == kVerificationSopClass || find_storage_class(proposed.abstract_syntax);
        answer.result = known ? ContextResult::UnknownTransferSyntax : ContextResult::UnknownAbstractSyntax;
        for (const std::string& syntax : proposed.transfer_syntaxes) {
            if (!known || !find_transfer_syntax(syntax)) continue;
            answer.result = ContextResult::Accepted;
            answer.transfer_syntax = syntax;
            break;
        }
        answers.push_back(std::move(answer));
    }
    return answers;
}

}  // namespace cardionode
