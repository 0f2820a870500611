// A deleter from the function that frees a C library's handle: std::unique_ptr<X509, FreeBy<X509_free>>.
#pragma once

namespace cardionode {

template <auto Function>
struct FreeBy {
    template <class T>
    void operator()(T* p) const noexcept {
        Function(p);
    }
};

}  // namespace cardionode
