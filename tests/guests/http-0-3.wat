;; A server of WASI 0.3: the status of its answers is 200 and how many its instance has given before.
(module
  (import "wasi:http/types@0.3.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.3.0" "[static]response.new" (func $response-new (param i32 i32 i32 i32 i32)))
  (import "wasi:http/types@0.3.0" "[method]response.set-status-code" (func $set-status (param i32 i32) (result i32)))
  (import "wasi:http/types@0.3.0" "[resource-drop]request" (func $drop-request (param i32)))
  (import "wasi:http/types@0.3.0" "[future-new-1][static]response.new" (func $future-new (result i64)))
  (import "wasi:http/types@0.3.0" "[async-lower][future-write-1][static]response.new" (func $future-write (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (global $status (mut i32) (i32.const 200))
  (func (export "wasi:http/handler@0.3.0#handle") (param $request i32) (result i32)
    (local $trailers i64)
    (call $drop-request (local.get $request))
    (local.set $trailers (call $future-new)) ;; the reading end, and in the upper half the writing one
    (call $response-new (call $fields) (i32.const 0) (i32.const 0) (i32.wrap_i64 (local.get $trailers)) (i32.const 16))
    (drop (call $set-status (i32.load (i32.const 16)) (global.get $status)))
    (global.set $status (i32.add (global.get $status) (i32.const 1)))
    ;; No trailers: what lies at 64 is all zero. Who reads it comes later.
    (drop (call $future-write (i32.wrap_i64 (i64.shr_u (local.get $trailers) (i64.const 32))) (i32.const 64)))
    (i32.store (i32.const 40) (i32.load (i32.const 16))) ;; the response, behind the case of the result at 32
    (i32.const 32)))
