//! The gate buckets of a pool, in the order of the lengths that their offers take.

use crate::pool::Class;

/// The longest prompt and completion together, and the longest completion.
pub type Lengths = (i64, i64);

/// A sorted list: a pool has few buckets, and each pick goes through all of them.
#[derive(Clone, Debug, Default)]
pub struct Classes(Vec<(Lengths, Class)>);

impl Classes {
    fn at(&self, lengths: Lengths) -> Result<usize, usize> {
        // Most pools have a handful.
        if self.0.len() <= 8 {
            let at = self.0.iter().position(|one| one.0 >= lengths);
            let at = at.unwrap_or(self.0.len());
            let found = self.0.get(at).is_some_and(|one| one.0 == lengths);
            return if found { Ok(at) } else { Err(at) };
        }
        self.0.binary_search_by(|one| one.0.cmp(&lengths))
    }

    #[inline]
    pub fn get(&self, lengths: Lengths) -> Option<&Class> {
        self.at(lengths).ok().map(|at| &self.0[at].1)
    }

    #[inline]
    pub fn get_mut(&mut self, lengths: Lengths) -> Option<&mut Class> {
        self.at(lengths).ok().map(|at| &mut self.0[at].1)
    }

    /// The bucket of such lengths, made if it is new.
    pub fn made(&mut self, lengths: Lengths) -> &mut Class {
        let at = match self.at(lengths) {
            Ok(at) => at,
            Err(at) => {
                self.0.insert(at, (lengths, Class::default()));
                at
            }
        };
        &mut self.0[at].1
    }

    pub fn remove(&mut self, lengths: Lengths) {
        if let Ok(at) = self.at(lengths) {
            self.0.remove(at);
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (Lengths, &Class)> {
        self.0.iter().map(|(lengths, class)| (*lengths, class))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Lengths, &mut Class)> {
        self.0.iter_mut().map(|(lengths, class)| (*lengths, class))
    }

    /// The buckets that take such lengths.
    pub fn takers(
        &mut self,
        (context, output): Lengths,
    ) -> impl Iterator<Item = (Lengths, &mut Class)> {
        self.iter_mut()
            .filter(move |((most, longest), _)| *most >= context && *longest >= output)
    }
}
