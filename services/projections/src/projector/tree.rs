//! The stored tiles of the Merkle tree.

use ledger_domain::Position;
use ledger_tlog::{EdgeTile, Hash, Tile, Tree, gap_leaf_hash};
use sqlx::PgConnection;

use crate::bulk_insert::{BatchStatement, insert_row};
use crate::postgres::{Error, bigint, parsed, position};
use crate::sql::sql;
use crate::tables::events::leaf_hash;

/// Returns true if a tile is stored. Those of level 0 are not: the tables have the leaf hash of each entry, and each
/// batch would write the last of them again.
pub(crate) const fn is_stored(tile: &Tile) -> bool {
    tile.level > 0
}

/// Loads the tree over the entries up to a position, ready for appends.
pub(crate) async fn load(connection: &mut PgConnection, size: Position) -> Result<Tree, Error> {
    let (leaves, edge): (Vec<EdgeTile>, Vec<EdgeTile>) =
        Tree::edge(size.get()).into_iter().partition(|tile| tile.level == 0);
    let levels: Vec<i16> = edge.iter().map(|tile| tile.level.into()).collect();
    let indexes: Vec<i64> = edge.iter().map(|tile| tile.index.cast_signed()).collect();
    let rows: Vec<(i16, i64, Vec<u8>)> =
        sqlx::query_as(sql!("tiles/edge")).bind(levels).bind(indexes).fetch_all(&mut *connection).await?;
    let tiles = rows.into_iter().map(|(level, index, hashes)| {
        parsed("tiles", format!("{level}/{index}"), || {
            let hashes = hashes.chunks(Hash::LENGTH).map(<[u8; 32]>::try_from);
            Ok::<_, Box<dyn std::error::Error>>(Tile {
                level: level.try_into()?,
                index: index.cast_unsigned(),
                hashes: hashes.map(|hash| hash.map(Hash::from)).collect::<Result<_, _>>()?,
            })
        })
    });
    let mut tiles = tiles.collect::<Result<Vec<_>, _>>()?;
    if let Some(EdgeTile { level, index, width }) = leaves.first().copied() {
        let hashes = last_leaves(connection, size, width as u64).await?;
        tiles.push(Tile { level, index, hashes });
    }
    parsed("tiles", format!("of size {size}"), || Tree::restore(size.get(), tiles))
}

/// Returns the leaf hashes of the last `count` entries up to a position.
async fn last_leaves(connection: &mut PgConnection, size: Position, count: u64) -> Result<Vec<Hash>, Error> {
    let query = sqlx::query_as(sql!("tiles/last_leaves"))
        .bind(bigint(Position::new(size.get().saturating_sub(count))))
        .bind(bigint(size));
    let rows: Vec<(i64, Option<Vec<u8>>)> = query.fetch_all(connection).await?;
    rows.into_iter()
        .map(|(at, leaf)| match leaf {
            Some(leaf) => leaf_hash(at, &leaf),
            None => Ok(gap_leaf_hash(position(at).get())),
        })
        .collect()
}

insert_row! {
    /// Row of `tiles`.
    pub(crate) struct TileUpsert => "tiles", "ON CONFLICT (level, index) DO UPDATE SET hashes = excluded.hashes" {
        level: i16,
        index: i64,
        hashes: Vec<u8>,
    }
}

/// Adds the stored tiles that a batch changes to its statement.
pub(crate) fn add_to(statement: &mut BatchStatement, tiles: &[Tile]) -> Result<(), Error> {
    let rows = tiles.iter().filter(|tile| is_stored(tile)).map(|tile| TileUpsert {
        level: tile.level.into(),
        index: tile.index.cast_signed(),
        hashes: tile.hashes.iter().flat_map(|hash| hash.as_bytes()).copied().collect(),
    });
    statement.insert(rows.collect::<Vec<TileUpsert>>())
}
