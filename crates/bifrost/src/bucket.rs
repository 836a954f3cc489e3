//! A token bucket in whole milli-tokens: no floats, no drift.

#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    milli_tokens: u64,
    milli_tokens_max: u64,
    per_second: u64,
    filled_at: u64,
}

impl Bucket {
    pub(crate) fn new(per_second: u32, burst: u32, now: u64) -> Self {
        let max = u64::from(burst.max(1)) * 1_000;
        Self {
            milli_tokens: max,
            milli_tokens_max: max,
            per_second: u64::from(per_second.max(1)),
            filled_at: now,
        }
    }

    /// Takes one token, or says in how many milliseconds there will be one.
    pub(crate) fn take(&mut self, now: u64) -> Result<(), u64> {
        let elapsed_ms = now.saturating_sub(self.filled_at);
        self.filled_at = self.filled_at.max(now);
        let gained = elapsed_ms.saturating_mul(self.per_second);
        self.milli_tokens = self
            .milli_tokens
            .saturating_add(gained)
            .min(self.milli_tokens_max);
        if self.milli_tokens < 1_000 {
            return Err((1_000 - self.milli_tokens).div_ceil(self.per_second));
        }
        self.milli_tokens -= 1_000;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Bucket;

    #[test]
    fn gives_the_burst_then_the_rate() {
        let mut bucket = Bucket::new(10, 3, 1_000);
        for _ in 0..3 {
            assert_eq!(bucket.take(1_000), Ok(()));
        }
        assert_eq!(bucket.take(1_000), Err(100));
        assert_eq!(bucket.take(1_099), Err(1));
        assert_eq!(bucket.take(1_100), Ok(()));
        assert_eq!(
            bucket.take(500),
            Err(100),
            "a clock that goes back gives nothing"
        );
        assert_eq!(bucket.take(u64::MAX), Ok(()));
    }
}
