// The one header of CUDA's toolkit that CuPy's complex numbers include.

#pragma once

#define THRUST_NAMESPACE_BEGIN namespace thrust {
#define THRUST_NAMESPACE_END }
