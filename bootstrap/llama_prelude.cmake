# llama-cpp-python forces this cache variable ON; a normal variable of the same name wins (CMP0126).
set(LLAMA_BUILD_COMMON OFF)
