;; A command of WASI 0.3.
(component
  (core module $program (func (export "run") (result i32) (i32.const 0)))
  (core instance $instance (instantiate $program))
  (func $run (result (result)) (canon lift (core func $instance "run")))
  (instance $entry (export "run" (func $run)))
  (export "wasi:cli/run@0.3.0" (instance $entry)))
