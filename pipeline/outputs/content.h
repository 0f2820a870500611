// The content tree of a structured report (PS3.3 C.17.3), item by item, as templates of PS3.16 need it.
//
// Texts are UTF-8 and are put into the character set of the outputs here. Each function appends to `parent`'s Content
// Sequence and returns the new item where something can hang below it; references live as long as the data set.
// Used inside pipeline/outputs only. Thread safety: as OutputContext.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pipeline/outputs/context.h"

class DcmItem;

namespace cardionode {

enum class Relation { Contains, HasObservationContext, HasConceptModifier, InferredFrom };

class ContentWriter {
public:
    /// `context` must outlive this.
    explicit ContentWriter(const OutputContext& context) : context_(context) {}

    /// The root container with its template (DCMR) in the data set itself.
    void root(DcmItem& dataset, const Code& title, const std::string& template_id);
    /// @param template_id  DCMR template of the container; empty: none
    DcmItem& container(DcmItem& parent, const Code& name, const std::string& template_id = {});
    DcmItem& code(DcmItem& parent, Relation relation, const Code& name, const Code& value);
    DcmItem& text(DcmItem& parent, Relation relation, const Code& name, const std::string& value);
    void uid(DcmItem& parent, Relation relation, const Code& name, const std::string& value);
    DcmItem& number(DcmItem& parent, const Code& name, double value, const Code& unit);
    /// SCOORD3D of type POINT in the source's frame of reference.
    void point(DcmItem& parent, Relation relation, const Code& name, const PatientPoint& position);
    /// IMAGE that refers to one segment of a SEG.
    void segment(DcmItem& parent, const Code& name, const OutputFile& seg, std::uint16_t number);

    /// Every code used so far, for the Coding Scheme Identification.
    const std::vector<Code>& codes() const { return codes_; }

private:
    DcmItem& item(DcmItem& parent, Relation relation, const char* value_type, const Code& name);
    void append(DcmItem& item, const DcmTagKey& sequence, const Code& code);
    const OutputContext& context_;
    std::vector<Code> codes_;
};

}  // namespace cardionode
