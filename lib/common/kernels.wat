;; The loop that a step spends outside of ONNX Runtime, on four numbers at once (WebAssembly's 128-bit SIMD). It writes one
;; block at the start of the memory, which simd.ts copies. Its header says how this file is assembled. The function has a plain
;; twin in TypeScript that tests hold it to.
(module
  (memory (export "memory") 2)

  ;; rng.ts' mixer on four counters.
  (func $mix (param $counter v128) (param $k0 v128) (param $k1 v128) (result v128)
    (local $x v128)
    (local.set $x (i32x4.add (local.get $counter) (local.get $k0)))
    (local.set $x
      (v128.xor
        (i32x4.mul
          (v128.xor (local.get $x) (i32x4.shr_u (local.get $x) (i32.const 16)))
          (v128.const i32x4 0x7feb352d 0x7feb352d 0x7feb352d 0x7feb352d))
        (local.get $k1)))
    (local.set $x
      (i32x4.mul
        (v128.xor (local.get $x) (i32x4.shr_u (local.get $x) (i32.const 15)))
        (v128.const i32x4 0x846ca68b 0x846ca68b 0x846ca68b 0x846ca68b)))
    (v128.xor (local.get $x) (i32x4.shr_u (local.get $x) (i32.const 16))))

  ;; `bytes` bytes (a multiple of 16) of a dropout mask, 1 where an element is kept: byte i looks at 16 of the bits that
  ;; the counter first + i / 2 gives, the low half for an even i. keep (1 to 65535) is the chance in 65536ths.
  (func (export "keepMask") (param $bytes i32) (param $first i32) (param $k0 i32) (param $k1 i32) (param $keep i32)
    (local $at i32) (local $counter v128) (local $key0 v128) (local $key1 v128) (local $limit v128) (local $a v128)
    (local $b v128)
    (local.set $counter (i32x4.add (i32x4.splat (local.get $first)) (v128.const i32x4 0 1 2 3)))
    (local.set $key0 (i32x4.splat (local.get $k0)))
    (local.set $key1 (i32x4.splat (local.get $k1)))
    (local.set $limit (i16x8.splat (local.get $keep)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $bytes)))
        (local.set $a
          (i16x8.lt_u (call $mix (local.get $counter) (local.get $key0) (local.get $key1)) (local.get $limit)))
        (local.set $counter (i32x4.add (local.get $counter) (v128.const i32x4 4 4 4 4)))
        (local.set $b
          (i16x8.lt_u (call $mix (local.get $counter) (local.get $key0) (local.get $key1)) (local.get $limit)))
        (local.set $counter (i32x4.add (local.get $counter) (v128.const i32x4 4 4 4 4)))
        ;; each comparison is 0 or -1 in 16 bits: narrow to bytes, keep the last bit
        (v128.store (local.get $at)
          (v128.and
            (i8x16.narrow_i16x8_s (local.get $a) (local.get $b))
            (v128.const i32x4 0x01010101 0x01010101 0x01010101 0x01010101)))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next)))))
