//! Working through much content a little at a time.

/// Consecutive items of at most `bytes_max` bytes together; a single one may be larger. None is left out.
pub fn runs<T>(items: &[T], bytes_max: u64, size: impl Fn(&T) -> u64) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0u64;
        let fits = |item: &&T| {
            bytes = bytes.saturating_add(size(item));
            bytes <= bytes_max
        };
        let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
        let (run, after) = rest.split_at(count);
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}

#[cfg(test)]
mod tests {
    use super::runs;

    #[test]
    fn all_items_come_in_order_and_within_the_limit() {
        let split = |items: &[u64]| runs(items, 10, |size| *size).map(<[u64]>::to_vec).collect::<Vec<_>>();
        assert_eq!(split(&[5, 5, 5, 20, 0, 1, 9, 1]), [vec![5, 5], vec![5], vec![20], vec![0, 1, 9], vec![1]]);
        assert_eq!(split(&[0, 0, 11, u64::MAX, u64::MAX]), [vec![0, 0], vec![11], vec![u64::MAX], vec![u64::MAX]]);
        assert!(split(&[]).is_empty());
    }
}
