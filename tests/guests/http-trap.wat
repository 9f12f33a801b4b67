;; A server that traps at each request.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $response))
  (core module $program (func (export "handle") (param i32 i32) unreachable))
  (core instance $instance (instantiate $program))
  (func $handle (param "request" (own $request)) (param "response-out" (own $response)) (canon lift (core func $instance "handle")))
  (instance $entry (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $entry)))
