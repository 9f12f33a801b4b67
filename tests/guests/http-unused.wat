;; A command that is linked with wasi:http and never calls it, as some tools make all of theirs.
(component
  (import "wasi:http/types@0.2.3" (instance (export "fields" (type (sub resource)))))
  (core module $program (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $program))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $entry (export "run" (func $run)))
  (export "wasi:cli/run@0.2.3" (instance $entry)))
