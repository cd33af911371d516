;; The loops that a step spends outside of ONNX Runtime, on four floats at once (WebAssembly's 128-bit SIMD). They work on
;; one block at the start of the memory; simd.ts copies it there and back. Its header lists the areas and says how this
;; file is assembled. Every function has a plain twin in TypeScript that tests hold it to.
(module
  (memory (export "memory") 2)

  ;; AdamW on `bytes` bytes of each area (a multiple of 16): weights at 0, gradients, averages, squares from $stride on.
  ;;   g = scale gradient;  m = b1 m + c1 g;  v = b2 v + c2 g g;  w = shrink w - rate m / (correction sqrt(v) + epsilon)
  (func (export "adamw") (param $bytes i32) (param $stride i32) (param $scale f32) (param $b1 f32) (param $c1 f32)
    (param $b2 f32) (param $c2 f32) (param $shrink f32) (param $rate f32) (param $correction f32) (param $epsilon f32)
    (local $w i32) (local $g i32) (local $m i32) (local $v i32)
    (local $grad v128) (local $average v128) (local $square v128)
    (local $scale4 v128) (local $b14 v128) (local $c14 v128) (local $b24 v128) (local $c24 v128)
    (local $shrink4 v128) (local $rate4 v128) (local $correction4 v128) (local $epsilon4 v128)
    (local.set $g (local.get $stride))
    (local.set $m (i32.mul (local.get $stride) (i32.const 2)))
    (local.set $v (i32.mul (local.get $stride) (i32.const 3)))
    (local.set $scale4 (f32x4.splat (local.get $scale)))
    (local.set $b14 (f32x4.splat (local.get $b1)))
    (local.set $c14 (f32x4.splat (local.get $c1)))
    (local.set $b24 (f32x4.splat (local.get $b2)))
    (local.set $c24 (f32x4.splat (local.get $c2)))
    (local.set $shrink4 (f32x4.splat (local.get $shrink)))
    (local.set $rate4 (f32x4.splat (local.get $rate)))
    (local.set $correction4 (f32x4.splat (local.get $correction)))
    (local.set $epsilon4 (f32x4.splat (local.get $epsilon)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $w) (local.get $bytes)))
        (local.set $grad (f32x4.mul (v128.load (local.get $g)) (local.get $scale4)))
        (local.set $average
          (f32x4.add
            (f32x4.mul (local.get $b14) (v128.load (local.get $m)))
            (f32x4.mul (local.get $c14) (local.get $grad))))
        (local.set $square
          (f32x4.add
            (f32x4.mul (local.get $b24) (v128.load (local.get $v)))
            (f32x4.mul (local.get $c24) (f32x4.mul (local.get $grad) (local.get $grad)))))
        (v128.store (local.get $m) (local.get $average))
        (v128.store (local.get $v) (local.get $square))
        (v128.store (local.get $w)
          (f32x4.sub
            (f32x4.mul (v128.load (local.get $w)) (local.get $shrink4))
            (f32x4.div
              (f32x4.mul (local.get $rate4) (local.get $average))
              (f32x4.add
                (f32x4.mul (f32x4.sqrt (local.get $square)) (local.get $correction4))
                (local.get $epsilon4)))))
        (local.set $w (i32.add (local.get $w) (i32.const 16)))
        (local.set $g (i32.add (local.get $g) (i32.const 16)))
        (local.set $m (i32.add (local.get $m) (i32.const 16)))
        (local.set $v (i32.add (local.get $v) (i32.const 16)))
        (br $next))))

  ;; Lion on `bytes` bytes of each area (a multiple of 16): weights at 0, gradients and averages from $stride on.
  ;;   g = scale gradient;  d = b1 m + c1 g;  w = shrink w - rate sign(d);  m = b2 m + c2 g
  (func (export "lion") (param $bytes i32) (param $stride i32) (param $scale f32) (param $b1 f32) (param $c1 f32)
    (param $b2 f32) (param $c2 f32) (param $shrink f32) (param $rate f32)
    (local $w i32) (local $g i32) (local $m i32)
    (local $grad v128) (local $average v128) (local $direction v128)
    (local $scale4 v128) (local $b14 v128) (local $c14 v128) (local $b24 v128) (local $c24 v128)
    (local $shrink4 v128) (local $rate4 v128) (local $zero v128)
    (local.set $g (local.get $stride))
    (local.set $m (i32.mul (local.get $stride) (i32.const 2)))
    (local.set $scale4 (f32x4.splat (local.get $scale)))
    (local.set $b14 (f32x4.splat (local.get $b1)))
    (local.set $c14 (f32x4.splat (local.get $c1)))
    (local.set $b24 (f32x4.splat (local.get $b2)))
    (local.set $c24 (f32x4.splat (local.get $c2)))
    (local.set $shrink4 (f32x4.splat (local.get $shrink)))
    (local.set $rate4 (f32x4.splat (local.get $rate)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $w) (local.get $bytes)))
        (local.set $grad (f32x4.mul (v128.load (local.get $g)) (local.get $scale4)))
        (local.set $average (v128.load (local.get $m)))
        (local.set $direction
          (f32x4.add
            (f32x4.mul (local.get $b14) (local.get $average))
            (f32x4.mul (local.get $c14) (local.get $grad))))
        (v128.store (local.get $m)
          (f32x4.add
            (f32x4.mul (local.get $b24) (local.get $average))
            (f32x4.mul (local.get $c24) (local.get $grad))))
        (v128.store (local.get $w) ;; a comparison gives all bits or none, of which the rate's remain
          (f32x4.add
            (f32x4.sub
              (f32x4.mul (v128.load (local.get $w)) (local.get $shrink4))
              (v128.and (f32x4.gt (local.get $direction) (local.get $zero)) (local.get $rate4)))
            (v128.and (f32x4.lt (local.get $direction) (local.get $zero)) (local.get $rate4))))
        (local.set $w (i32.add (local.get $w) (i32.const 16)))
        (local.set $g (i32.add (local.get $g) (i32.const 16)))
        (local.set $m (i32.add (local.get $m) (i32.const 16)))
        (br $next))))

  ;; The sum of the squares of the floats in the first `bytes` bytes (a multiple of 16), added up in double precision.
  (func (export "sumOfSquares") (param $bytes i32) (result f64)
    (local $at i32) (local $x v128) (local $low v128) (local $high v128)
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $at) (local.get $bytes)))
        (local.set $x (v128.load (local.get $at)))
        (local.set $low
          (f64x2.add (local.get $low)
            (f64x2.mul (f64x2.promote_low_f32x4 (local.get $x)) (f64x2.promote_low_f32x4 (local.get $x)))))
        (local.set $x (i8x16.shuffle 8 9 10 11 12 13 14 15 0 1 2 3 4 5 6 7 (local.get $x) (local.get $x)))
        (local.set $high
          (f64x2.add (local.get $high)
            (f64x2.mul (f64x2.promote_low_f32x4 (local.get $x)) (f64x2.promote_low_f32x4 (local.get $x)))))
        (local.set $at (i32.add (local.get $at) (i32.const 16)))
        (br $next)))
    (local.set $low (f64x2.add (local.get $low) (local.get $high)))
    (f64.add (f64x2.extract_lane 0 (local.get $low)) (f64x2.extract_lane 1 (local.get $low))))

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
